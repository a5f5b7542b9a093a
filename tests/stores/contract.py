"""The contract of every store of bindings. It is public: `sippet_gevent.testing.stores` has it for stores of others, too."""

from __future__ import annotations

from sippet_gevent.testing.stores import (
    FAILURES,
    FAULTS,
    Faulty,
    SharedStoreContract,
    StoreContract,
)

__all__ = ["FAILURES", "FAULTS", "Faulty", "SharedStoreContract", "StoreContract"]
