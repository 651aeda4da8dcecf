"""``councilctl``: the entry point, and the one place where the commands' errors are printed.

What lives here: what happens when a command fails, or can't even be imported; exit codes (0 done, 1 a finding or a
refusal, 2 wrong usage or input). What never does: commands. ``commands`` puts them together; importing it needs the
``[terminal]`` extra, which is why it is imported late and nothing here needs more than Python.
"""

from __future__ import annotations

import sys
from importlib import import_module

from gatekeeperd.errors import GuardianError

#: What `pip install gatekeeperd[terminal]` adds. A node runs the daemon without.
_EXTRA = frozenset({"dpkt", "httpx", "rich", "typer"})


def main() -> None:
    """Run ``councilctl`` and exit."""
    try:
        import_module("gatekeeperd.cli.commands").app()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        _complain(f"councilctl needs the package {package}: pip install 'gatekeeperd[terminal]'")
    except GuardianError as error:
        _complain(str(error))
    sys.exit(2)


def _complain(message: str) -> None:
    line = f"\033[31m{message}\033[0m" if sys.stderr.isatty() else message
    print(line, file=sys.stderr)  # noqa: T201  standard error is where this belongs, and rich may be what is missing


if __name__ == "__main__":
    main()
