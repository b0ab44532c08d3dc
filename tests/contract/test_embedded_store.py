"""The whole suite on the embedded engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from knowledge_base.edge import EdgeStore
from knowledge_base.errors import DiskLow
from tests.contract.store_suite.conformance import Conformance
from tests.contract.store_suite.congruence import CongruenceSuite, RecallSuite
from tests.contract.store_suite.lasting import LastingSuite
from tests.contract.store_suite.rigs import edge_rig, wired_edge_rig
from tests.contract.store_suite.samples import MANIFEST, a_schema
from tests.contract.store_suite.withdrawal import TombstoneSuite


class TestEmbedded(Conformance, LastingSuite, CongruenceSuite):
    """qdrant-edge in a process of its own."""

    make = staticmethod(edge_rig)

    def test_it_keeps_a_disk_reserve(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        store = EdgeStore(folder, reserve_bytes=free * 2)
        with pytest.raises(DiskLow, match="would stay free"):
            store.open(a_schema(), MANIFEST)
        store.close()
        assert [p.name for p in folder.iterdir()] == ["engine.lock"]


class TestEmbeddedAtSize(RecallSuite):
    """With a graph over compressed copies."""

    make = staticmethod(edge_rig)


class TestEmbeddedAsWired(TombstoneSuite):
    """With its withdrawals kept."""

    make = staticmethod(wired_edge_rig)
