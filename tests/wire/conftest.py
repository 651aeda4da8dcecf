"""Both variants of the codec, for every test of it; and the way to ``tests.fuzz``, whose value generator is shared."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))

from gatekeeperd.wire.per_engine import INTERPRETED_ENGINE, compiled_engine
from gatekeeperd.wire.schema import Schema


@pytest.fixture(params=["interpreted", "compiled"], scope="session")
def schema(request: pytest.FixtureRequest) -> Schema:
    if request.param == "interpreted":
        return Schema(*INTERPRETED_ENGINE)
    engine = compiled_engine()
    if engine is None:
        pytest.skip("the codec is not compiled here: no Cython, or no C compiler")
    return Schema(*engine)
