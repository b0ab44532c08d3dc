"""What every knowledge store promises, whichever engine keeps it."""

from __future__ import annotations

from tests.contract.store_suite.amounts import BatchSuite, CountSuite, PagingSuite
from tests.contract.store_suite.faults import DamageSuite, OpeningSuite, RefusalSuite
from tests.contract.store_suite.filters import FilterSuite
from tests.contract.store_suite.ids import IdSuite, UpsertSuite
from tests.contract.store_suite.patients import PatientSuite
from tests.contract.store_suite.rankings import BoxSuite, DenseSuite, RegionSuite, SparseSuite
from tests.contract.store_suite.tenants import TenantSuite
from tests.contract.store_suite.threads import ThreadSuite
from tests.contract.store_suite.withdrawal import WithdrawalSuite


class Conformance(
    IdSuite,
    UpsertSuite,
    FilterSuite,
    TenantSuite,
    WithdrawalSuite,
    BoxSuite,
    DenseSuite,
    RegionSuite,
    SparseSuite,
    PatientSuite,
    PagingSuite,
    CountSuite,
    BatchSuite,
    RefusalSuite,
    DamageSuite,
    OpeningSuite,
    ThreadSuite,
):
    """All subjects together; an adapter's test class inherits it and names its rig."""
