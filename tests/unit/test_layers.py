"""The import rules of docs/architecture.md, held by the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gatekeeperd

PACKAGE = Path(gatekeeperd.__file__).parent
#: Modules that touch the world. What must be pure may import none of them.
WORLD = {
    "asyncio",
    "socket",
    "sqlite3",
    "subprocess",
    "threading",
    "concurrent",
    "time",
    "uvicorn",
    "fastapi",
    "select",
    "selectors",
}
#: Each layer, and what of ours it may import.
LAYERS = {
    "wire": {"wire", "errors"},
    "security": {"security", "wire", "witness", "core.actions", "core.ras.messages", "errors"},
    "policy": {"policy", "security", "core.actions", "errors"},
    "witness": {"witness", "core.actions", "security", "errors"},
    "core": {"core", "policy", "security", "wire", "errors"},
    "store": {"store", "witness", "security", "core.actions", "errors"},
}
#: policy/limits.py asks the socket module for inet_pton, a pure function.
PURE = {"wire": set(), "security": set(), "policy": {"policy/limits.py"}, "core": set()}


def imports(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def modules(layer: str) -> list[Path]:
    return [module for module in (PACKAGE / layer).rglob("*.py") if "_compiled" not in module.parts]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_is_below_it(layer):
    assert modules(layer)
    for module in modules(layer):
        ours = {name.removeprefix("gatekeeperd.") for name in imports(module) if name.startswith("gatekeeperd.")}
        strangers = {name for name in ours if not any(name == below or name.startswith(below + ".") for below in LAYERS[layer])}
        assert not strangers, f"{module.relative_to(PACKAGE)} imports {strangers}"


@pytest.mark.parametrize("layer", PURE)
def test_what_decides_touches_no_socket_clock_or_thread(layer):
    for module in modules(layer):
        if str(module.relative_to(PACKAGE)) in PURE[layer]:
            continue
        touched = {name.partition(".")[0] for name in imports(module)} & WORLD
        assert not touched, f"{module.relative_to(PACKAGE)} imports {touched}"
