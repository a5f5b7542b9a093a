"""The functions of `_speedups.c`, if they are built and wanted. Pure.

Each has a twin in Python, which it replaces in the file of that: scan.py, echo.py, address.py,
via.py, uri.py, mandatory.py. SIPPET_PUREPYTHON=1 in the environment turns them off.
"""

from __future__ import annotations

import os
from typing import Any

c: Any = None
try:
    if not os.environ.get("SIPPET_PUREPYTHON"):
        from . import _speedups as c  # type: ignore[attr-defined, no-redef]
except ImportError:
    pass

implementation = "python" if c is None else "c"
