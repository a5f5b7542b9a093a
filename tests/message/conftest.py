"""Hypothesis draws the same examples every time in CI, so that a red run is the commit's doing."""

import os

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("steady")
