"""What holds for every test. This directory is on the import path: helpers that several kinds of test share are beside it."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

# Who starts daemons lives with the integration tests, who dissects what they say with the interop ones; both need both.
sys.path += (str(Path(__file__).parent / folder) for folder in ("integration", "interop"))

# Two shared processors and a disk decide how long an example takes; a time limit on it would only flake.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
