"""uvicorn inside the daemon's own event loop, with bounds on what a client may hold.

What lives here: listening sockets, TLS handshakes, the age and number of connections, graceful stop. What never does:
routes. uvicorn itself bounds neither a handshake nor a client that sends one octet a minute; such a client would hold a
descriptor that the ledger may need.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.errors import ConfigurationError

#: A TLS handshake over any network we serve takes well under a second.
HANDSHAKE_S: Final = 5.0
#: No connection lives longer, whatever it does: slow headers, slow bodies and slow readers end here alike.
CONNECTION_S: Final = 30.0
MAX_CONNECTIONS: Final = 256
#: One client can't take all of them.
MAX_CONNECTIONS_PER_SOURCE: Final = 32
MAX_HEADER_OCTETS: Final = 16 * 1024


class HttpServer:
    """One ASGI application on some sockets. ``tls`` is ``None`` for plain HTTP."""

    def __init__(self, application: Callable[..., Any], sockets: list[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        self._sockets = sockets
        self._server = _Server(
            uvicorn.Config(
                application,
                http="h11",
                ws="none",
                lifespan="off",
                access_log=False,  # the witness log tells what was asked; a URL may hold a session
                log_config=None,
                server_header=False,
                proxy_headers=False,  # nobody in front of us may say who the client is
                h11_max_incomplete_event_size=MAX_HEADER_OCTETS,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=3,
            ),
            tls,
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> tuple[TransportAddress, ...]:
        """Where it listens."""
        return tuple((name[0], name[1]) for name in (bound.getsockname() for bound in self._sockets))

    async def start(self) -> None:
        """Return when connections are taken."""
        self._task = asyncio.create_task(self._server.serve(self._sockets))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise RuntimeError("the HTTP server ended before it began")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Take no more connections, finish the requests under way (3 s at most) and close."""
        if self._task is not None:
            self._server.end()
            await self._task


def listening_sockets(hosts: tuple[str, ...], port: int, *, field: str) -> list[socket.socket]:
    """Bind one TCP socket a host, all to one port. Raises :class:`ConfigurationError` that names ``field``."""
    sockets: list[socket.socket] = []
    try:
        for host in hosts:
            chosen = port or (sockets[0].getsockname()[1] if sockets else 0)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            # create_server sets SO_REUSEADDR and IPV6_V6ONLY.
            sockets.append(socket.create_server((host, chosen), family=family, backlog=128))
    except OSError as error:
        for bound in sockets:
            bound.close()
        raise ConfigurationError(f"can't bind TCP {host} port {chosen}: {error.strerror}", field=field) from error
    return sockets


class _Server(uvicorn.Server):
    """uvicorn's server with a handshake timeout of ours, and signals left to the daemon."""

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._tls = tls
        self.per_source: Counter[str] = Counter()
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Make ``serve`` return."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        # uvicorn's own wakes ten times a second to look at a flag; the Date header needs one.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 1.0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        await self.lifespan.startup()
        self.servers = [
            await loop.create_server(
                self._protocol,
                sock=bound,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_S if self._tls else None,
                ssl_shutdown_timeout=HANDSHAKE_S if self._tls else None,
            )
            for bound in sockets or ()
        ]
        self.started = True

    def _protocol(self) -> asyncio.Protocol:
        return _BoundedProtocol(self.config, self.server_state, self.lifespan.state, per_source=self.per_source)


class _BoundedProtocol(H11Protocol):
    """A connection with an age limit, counted by its source."""

    def __init__(self, *arguments: Any, per_source: Counter[str]) -> None:
        super().__init__(*arguments)
        self._per_source = per_source
        self._source = ""
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._source = self.client[0] if self.client else ""
        self._per_source[self._source] += 1
        self._end = self.loop.call_later(CONNECTION_S, transport.abort)
        if self._per_source[self._source] > MAX_CONNECTIONS_PER_SOURCE or len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._end is not None:
            self._end.cancel()
        self._per_source[self._source] -= 1
        if not self._per_source[self._source]:
            del self._per_source[self._source]
