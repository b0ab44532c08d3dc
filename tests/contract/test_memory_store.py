"""The whole suite on the store in memory, bare and behind what the product puts before every store."""

from __future__ import annotations

from tests.contract.store_suite.conformance import Conformance
from tests.contract.store_suite.congruence import CongruenceSuite
from tests.contract.store_suite.rigs import memory_rig, wired_rig
from tests.contract.store_suite.withdrawal import TombstoneSuite


class TestMemory(Conformance):
    """The exact store."""

    make = staticmethod(memory_rig)


class TestMemoryAsWired(Conformance, TombstoneSuite, CongruenceSuite):
    """Audited, and with its withdrawals kept."""

    make = staticmethod(wired_rig)
