"""The functions in C, if they are built and wanted. Pure.

Those of `_speedups.c` have twins in Python, which they replace in the file of that: scan.py,
echo.py, address.py, via.py, uri.py, mandatory.py, framer.py. SIPPET_PUREPYTHON=1 in the environment
turns all functions in C off.
"""

from __future__ import annotations

import importlib
import os
import warnings
from types import ModuleType

INTERFACE = 3
"""INTERFACE of `_speedups.c`. A change of what its functions take or return raises both."""


def wanted(name: str, interface: int) -> ModuleType | None:
    """Return the module in C of this name; None if it is not built, not wanted, or of another
    version, which is told with a warning."""
    if os.environ.get("SIPPET_PUREPYTHON"):
        return None
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    if getattr(module, "INTERFACE", None) != interface:
        # for example after "git pull" in a clone that was installed with "pip install -e"
        warnings.warn(
            f"{getattr(module, '__file__', 'the C extension')} was built from another version of "
            "sippet_gevent, so its slower twin in Python is used: run pip install again",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return module


c = wanted("sippet_gevent.message._speedups", INTERFACE)

implementation = "python" if c is None else "c"
