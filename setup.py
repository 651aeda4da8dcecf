"""Compile the PER codec where Cython and a C compiler are; install it as plain Python where they are not.

Everything else is in pyproject.toml. ``GATEKEEPERD_PURE=1`` skips the compiler at build time, and at run time makes an
installation that has the compiled codec use the interpreted one.
"""

from __future__ import annotations

import os

from setuptools import Extension, setup

# Each source becomes a twin in the package _compiled, under the same name: both can be imported side by side.
MODULES = ("per_bits", "per_types", "per")
# The C types are those of the .pxd files alone. Bounds checks stay on: they cost 1 to 4 %.
DIRECTIVES = {"language_level": 3, "annotation_typing": False}


def extensions() -> list[Extension]:
    """Return what to compile; nothing where Cython is missing. A failing C compiler is no error either (``optional``)."""
    if os.environ.get("GATEKEEPERD_PURE", "0") not in {"", "0"}:
        return []
    try:
        from Cython.Build import cythonize  # noqa: PLC0415 - may be missing, which is what this function is for
    except ImportError:
        return []
    twins = [
        Extension(
            f"gatekeeperd.wire._compiled.{name}",
            [f"gatekeeperd/wire/{name}.py"],
            depends=[f"gatekeeperd/wire/_compiled/{module}.pxd" for module in MODULES],
        )
        for name in MODULES
    ]
    # force: Cython looks for changes of a .pxd only beside the source
    built: list[Extension] = cythonize(twins, build_dir="build/cython", compiler_directives=DIRECTIVES, force=True)
    for twin in built:
        twin.optional = True  # cythonize does not keep it
    return built


setup(ext_modules=extensions())
