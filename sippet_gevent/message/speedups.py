"""The functions of `_speedups.c`, if they are built and wanted. Pure.

Each has a twin in Python, which it replaces in the file of that: scan.py, echo.py, address.py,
via.py, uri.py, mandatory.py. SIPPET_PUREPYTHON=1 in the environment turns them off.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

INTERFACE = 2
"""INTERFACE of `_speedups.c`. A change of what its functions take or return raises both."""

c: Any = None
try:
    if not os.environ.get("SIPPET_PUREPYTHON"):
        from . import _speedups as c  # type: ignore[attr-defined, no-redef]
except ImportError:
    pass
if c is not None and getattr(c, "INTERFACE", None) != INTERFACE:
    # for example after "git pull" in a clone that was installed with "pip install -e"
    warnings.warn(
        f"{getattr(c, '__file__', 'the C extension')} was built from another version of "
        "sippet_gevent, so its slower twin in Python is used: run pip install again",
        RuntimeWarning,
        stacklevel=2,
    )
    c = None

implementation = "python" if c is None else "c"
