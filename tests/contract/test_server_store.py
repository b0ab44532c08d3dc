"""The whole suite on the server's adapter: over qdrant-client's local mode, and on the server that QDRANT_URL names."""

from __future__ import annotations

import os

from tests.contract.store_suite.conformance import Conformance
from tests.contract.store_suite.congruence import CongruenceSuite, RecallSuite
from tests.contract.store_suite.lasting import LastingSuite
from tests.contract.store_suite.rigs import local_rig, server_rig


class TestLocalMode(Conformance, LastingSuite, CongruenceSuite):
    """qdrant-client without a server."""

    make = staticmethod(local_rig)


if "QDRANT_URL" in os.environ:

    class TestServer(Conformance, LastingSuite, CongruenceSuite):
        """A real server or cluster."""

        make = staticmethod(server_rig)

    class TestServerAtSize(RecallSuite):
        """With a graph."""

        make = staticmethod(server_rig)
