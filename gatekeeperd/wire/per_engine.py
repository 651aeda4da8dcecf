"""Which ``per`` this process uses: the compiled one where setup.py could build it, else the interpreted one.

What lives here: that choice alone. ``GATEKEEPERD_PURE=1`` in the environment makes it the interpreted one.
What never does: any behaviour; the two do the same, and the tests of the codec run on both.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Final

from gatekeeperd.wire import per, per_types

__all__ = ["COMPILED", "INTERPRETED_ENGINE", "Engine", "compiled_engine", "engine"]

# (per, per_types), or their compiled twins.
Engine = tuple[ModuleType, ModuleType]
INTERPRETED_ENGINE: Final[Engine] = (per, per_types)


def compiled_engine() -> Engine | None:
    """Return the compiled ``per`` and ``per_types``; None where they were not built, or not for this Python."""
    try:
        return (
            importlib.import_module("gatekeeperd.wire._compiled.per"),
            importlib.import_module("gatekeeperd.wire._compiled.per_types"),
        )
    except ImportError:
        return None


_compiled = None if os.environ.get("GATEKEEPERD_PURE", "0") not in {"", "0"} else compiled_engine()
COMPILED: Final = _compiled is not None
engine: Final[Engine] = _compiled or INTERPRETED_ENGINE
