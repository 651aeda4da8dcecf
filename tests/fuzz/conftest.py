"""Puts the repository's root on the import path: a bare ``pytest`` does not."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
