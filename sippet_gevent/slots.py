"""Properties that are read from slots without a call of a Python function. Pure."""

from __future__ import annotations

from operator import attrgetter


def read_from_slots(kind: type, **slots: str) -> None:
    """Let properties of a class be read directly from their slots.

    A class says what its attributes are by properties, with types and documentation. Some are read
    a dozen times for each message, and each such read would be a call of a function that returns a
    slot.

        read_from_slots(Request, method="_method")

    Args:
        kind: The class.
        **slots: The name of each property, and what it returns: a slot, or an attribute of a slot,
            such as `"_plan.timers"`.
    """
    for name, slot in slots.items():
        known: property = kind.__dict__[name]
        setattr(kind, name, property(attrgetter(slot), known.fset, doc=known.__doc__))
