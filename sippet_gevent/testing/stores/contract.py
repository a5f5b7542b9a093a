"""StoreContract: the contract of every store of bindings."""

from __future__ import annotations

from .calls import StoreCalls
from .registrations import StoreRegistrations


class StoreContract(StoreCalls, StoreRegistrations):
    """The contract of a store of bindings. Derive a test class from it, and say how a store is
    made:

        class TestMyStore(StoreContract):
            @pytest.fixture
            def make(self):
                return MyStore

    `make()` returns a store without bindings. The tests call each method, one by one and at the
    same time. Then phones register with the store, on the clock and network of a test, while it is
    slow and while it fails. Some tests wait in real time if the store does.
    """
