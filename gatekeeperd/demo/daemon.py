"""The gatekeeper of the demo: ``gatekeeperd run --standalone`` as a process of its own.

What lives here: starting it, its facts, stopping it. What never does: anything inside that process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gatekeeperd.cli.api_client import ApiClient
from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.errors import TerminalError
from gatekeeperd.security.keys import parse_public_key

HOST: Final = "127.0.0.10"
_START_S: Final = 20.0
_STOP_S: Final = 10.0
_SESSIONS: Final = "/api/admission/sessions"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running gatekeeper as its ready line describes it."""

    pid: int
    version: str
    ras: TransportAddress
    http: str
    certificate: Path
    service_key: bytes
    state: Path
    witness: Path

    async def sessions(self) -> list[dict[str, Any]]:
        """Ask the HTTPS API, as an operator would, what is admitted right now. Sorted by session_id."""
        token = (self.state / "api_token").read_text(encoding="ascii").strip()
        client = ApiClient(self.http, self.certificate, insecure=False)
        reply = await asyncio.to_thread(client.request, "GET", _SESSIONS, headers={"Authorization": f"Bearer {token}"})
        if not reply.succeeded:
            raise TerminalError(f"GET {_SESSIONS}: {reply.status} {reply.body}")
        return sorted(reply.body["sessions"], key=lambda session: str(session["session_id"]))


@asynccontextmanager
async def running(registry: Path, state: Path, log: Path) -> AsyncIterator[Daemon]:
    """Start a gatekeeper on :data:`HOST`, ports chosen by the kernel, and stop it in order at the end.

    Raises:
        TerminalError: it did not start or did not stop as it should.

    """
    command = [
        *(sys.executable, "-m", "gatekeeperd.cli.daemon", "run", "--standalone", "--bind", HOST, "--print-json"),
        *("--port", "0", "--http-port", "0", "--metrics-port", "0", "--registry", str(registry), "--state", str(state)),
    ]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=errors)
    try:
        yield _ready(await _first_line(process), log)
        process.terminate()
        code = await asyncio.wait_for(process.wait(), _STOP_S)
        if code != 0:
            raise TerminalError(f"gatekeeperd ended with {code}: see {log}")
    except TimeoutError as error:
        raise TerminalError(f"gatekeeperd does not answer or stop: see {log}") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _first_line(process: asyncio.subprocess.Process) -> bytes:
    if process.stdout is None:
        return b""
    return await asyncio.wait_for(process.stdout.readline(), _START_S)


def _ready(line: bytes, log: Path) -> Daemon:
    if not line:
        reason = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise TerminalError(f"gatekeeperd did not start: {reason}")
    facts = json.loads(line)
    host, port = facts["ras"][0]
    return Daemon(
        pid=facts["pid"],
        version=facts["version"],
        ras=(host, port),
        http=facts["http"],
        certificate=Path(facts["certificate"]),
        service_key=parse_public_key(facts["service_public_key"]),
        state=Path(facts["state"]),
        witness=Path(facts["witness"]),
    )
