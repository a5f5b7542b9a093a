"""Tests for a store of bindings of your own. Derive a class from StoreContract, and pytest runs
them.

    from sippet_gevent.testing.stores import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def make(self):
            return MyStore
"""

from .contract import StoreContract
from .faulty import FAILURES, FAULTS, Faulty
from .shared import SharedStoreContract

__all__ = ["FAILURES", "FAULTS", "Faulty", "SharedStoreContract", "StoreContract"]
