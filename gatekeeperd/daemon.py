"""The daemon: everything wired together, started in order, reloaded, and stopped in the reverse order.

What lives here: files of the state directory, the wiring, signals, the housekeeping of each second. What never does:
protocol (``core/``), sockets and HTTP (``net/``), the meaning of settings (``config.py``).
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from prometheus_client import make_asgi_app

from gatekeeperd import __version__
from gatekeeperd.config import ApiToken, Config, load_passwords, load_tokens, read_secret
from gatekeeperd.core.actions import Record, TransportAddress
from gatekeeperd.core.gatekeeper import Gatekeeper
from gatekeeperd.errors import ConfigurationError, GuardianError
from gatekeeperd.metrics import Sources, create_registry
from gatekeeperd.net.api import ApiContext, create_app
from gatekeeperd.net.certificate import CertificateFiles, ensure_self_signed, local_names, server_context
from gatekeeperd.net.clock import boottime, wall
from gatekeeperd.net.engine import Engine
from gatekeeperd.net.http_server import HttpServer, listening_sockets
from gatekeeperd.net.ras import RasSockets
from gatekeeperd.net.service_manager import notify
from gatekeeperd.policy.limits import SourceLimiter
from gatekeeperd.policy.registry import load_registry
from gatekeeperd.security.keys import KeyPair, create_key_file, format_public_key, load_key_file
from gatekeeperd.security.replay import SeenOnce
from gatekeeperd.store.ledger import Ledger

#: What is still undecided at a stop is given this long to become durable.
DRAIN_S: Final = 5.0
HOUSEKEEPING_S: Final = 1.0
#: A collection of all that stayed, which is mostly admitted calls, holds everything up: 27 ms with 10,000 calls. By default it
#: may come every 7,000 calls, with these every 200,000; little but HTTP makes cyclic garbage, and that mostly dies young.
_GC_THRESHOLDS: Final = (2_000, 20, 50)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What a started daemon listens on, and what its users need to know of it."""

    pid: int
    version: str
    node: str
    gatekeeper_identifier: str
    epoch: int
    ras: tuple[TransportAddress, ...]
    call_signal: tuple[TransportAddress, ...]
    multicast: tuple[TransportAddress, ...]
    http: str
    certificate: str
    metrics: str
    service_public_key: str
    service_public_key_file: str
    node_public_key: str
    node_public_key_file: str
    state: str
    witness: str

    def to_json(self) -> str:
        """Write it as one line of JSON with ``"event": "ready"``."""
        return json.dumps({"event": "ready", **asdict(self)})


class Daemon:
    """One gatekeeper node. ``start`` it once, ``reload`` it at will, ``stop`` it once."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._tokens: tuple[ApiToken, ...] = ()
        self._reloads: Counter[str] = Counter({"ok": 0, "failed": 0})
        self._stopping = False
        #: Set, with its reason, when the daemon can't go on: memory and store disagree, or its housekeeping ended.
        self.failed = asyncio.Event()
        self.failure: BaseException | None = None
        self._gatekeeper: Gatekeeper
        self._engine: Engine

    async def start(self) -> Ready:
        """Bring everything up; nothing is left behind on an error.

        Raises :class:`ConfigurationError` for what an operator can mend in a file, :class:`GuardianError` otherwise.
        """
        try:
            return await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """Take no more requests, make durable what was decided, seal the witness log, close everything."""
        self._stopping = True
        notify("STOPPING=1")
        await self._stack.aclose()
        _log.info("stopped")

    async def reload(self) -> None:
        """Read registry, passwords and tokens anew (SIGHUP). A fault is logged and recorded; the last good ones stay."""
        try:
            registry = await asyncio.to_thread(load_registry, self._config.registry)
            passwords = await asyncio.to_thread(_passwords, self._config)
            self._tokens = await asyncio.to_thread(_tokens, self._config)
        except ConfigurationError as error:
            self._reloads["failed"] += 1
            _log.error("reload failed, the last good registry stays: %s", error)
            where = {"file": error.path.name if error.path else None, "line": error.line, "field": error.field}
            self._record("registry.reload_failed", **where)
            return
        self._gatekeeper.replace_passwords(passwords)
        self._engine.perform([self._gatekeeper.replace_registry(registry, boottime())])
        self._reloads["ok"] += 1
        _log.info("reloaded: %d guardians, SHA-256 %s", len(registry), registry.digest)

    async def _start(self) -> Ready:
        config, stack, loop = self._config, self._stack, asyncio.get_running_loop()
        # Clients hold a descriptor each; what the system allows, not what a shell is given by default.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        started = boottime()
        registry = await asyncio.to_thread(load_registry, config.registry)
        passwords = _passwords(config)
        sockets = RasSockets(
            config.ras.bind,
            config.ras.port,
            multicast=config.ras.multicast,
            receive_buffer_octets=config.ras.receive_buffer_octets,
        )
        stack.callback(sockets.close)
        api_sockets = listening_sockets(config.http.bind, config.http.port, field="http.bind")
        for bound in api_sockets:
            stack.callback(bound.close)
        metrics_sockets = listening_sockets(config.metrics.bind, config.metrics.port, field="metrics.bind")
        for bound in metrics_sockets:
            stack.callback(bound.close)

        # Nothing is written before every socket is ours, and nothing that a running daemon uses is replaced before the lock is.
        _private_directory(config.state_directory)
        _private_directory(config.witness_directory)
        self._tokens = _tokens(config)
        files = _given_certificate(config)
        tls = None if files is None else server_context(files)
        service_key, node_key = _key(config.state_directory, "service"), _key(config.state_directory, "node")
        executor = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        stack.callback(executor.shutdown)
        ledger = await loop.run_in_executor(
            executor,
            partial(
                Ledger.open,
                config.witness_directory,
                node=config.node,
                signing_key=node_key.signing_key,
                clock=time.time_ns,
                retention_days=config.witness.retention_days,
                checkpoint_interval_s=config.witness.checkpoint_interval_s,
                checkpoint_records=config.witness.checkpoint_records,
            ),
        )
        stack.push_async_callback(_on, executor, ledger.close)
        if files is None:
            files = await asyncio.to_thread(_own_certificate, config)
        tls = tls or server_context(files)
        self._gatekeeper = Gatekeeper(
            config.to_settings(sockets.addresses, passwords),
            registry,
            service_key=service_key,
            epoch=ledger.epoch,
            stored=await loop.run_in_executor(executor, ledger.load),
            now=boottime(),
            wall=wall,
        )
        self._engine = Engine(self._gatekeeper, sockets, ledger.commit, executor, lost=self._fail)
        stack.push_async_callback(self._drain)

        api = create_app(
            ApiContext(
                admissions=self._gatekeeper,
                commit=self._engine.commit,
                why_not_ready=self._why_not_ready,
                tokens=lambda: self._tokens,
                limiter=SourceLimiter(config.http.requests_per_s, config.http.burst, max_sources=4096),
                seen=SeenOnce(),
                started=wall(started),
            )
        )
        metrics_registry = create_registry(
            Sources(
                node=config.node,
                core=self._gatekeeper,
                ledger=self._engine.committer,
                latency=self._engine.latency,
                faults=lambda: sockets.faults + self._engine.faults,
                ready=lambda: self._why_not_ready() is None,
                multicast=bool(sockets.multicast),
                reloads=self._reloads,
                started=started,
            )
        )
        servers = HttpServer(api, api_sockets, tls), HttpServer(make_asgi_app(metrics_registry), metrics_sockets)
        stack.push_async_callback(_stop_all, servers)
        for server in servers:
            await server.start()

        begun = Record(
            "gatekeeper.started",
            secrets.token_hex(16),
            {"version": __version__, "registry": registry.digest, "guardians": len(registry)},
        )
        await self._engine.commit(self._gatekeeper.announce(begun, boottime()))
        # The registry may have changed while we were down.
        await self._engine.commit(self._gatekeeper.enforce_registry(boottime()))
        sockets.listen(loop, self._engine.receive, self._engine.arm)
        stack.callback(sockets.stop_listening, loop)
        self._engine.arm()
        housekeeping = asyncio.create_task(self._keep_house(ledger, executor))
        housekeeping.add_done_callback(self._housekeeping_ended)
        stack.callback(housekeeping.cancel)
        notify("READY=1")
        return Ready(
            pid=os.getpid(),
            version=__version__,
            node=config.node,
            gatekeeper_identifier=config.gatekeeper.identifier,
            epoch=ledger.epoch,
            ras=sockets.addresses,
            call_signal=self._gatekeeper.settings.call_signal_addresses,
            multicast=sockets.multicast,
            http=_url("https", servers[0].addresses[0]),
            certificate=str(files.certificate),
            metrics=_url("http", servers[1].addresses[0]) + "/metrics",
            service_public_key=format_public_key(service_key.public),
            service_public_key_file=str(config.state_directory / "service.pub"),
            node_public_key=format_public_key(node_key.public),
            node_public_key_file=str(config.state_directory / "node.pub"),
            state=str(config.state_directory),
            witness=str(config.witness_directory),
        )

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.failed.set()

    def _housekeeping_ended(self, task: asyncio.Task[None]) -> None:
        """Without checkpoints the log is not signed any more: better to end, and be started again, than to go on so."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _why_not_ready(self) -> str | None:
        if self._stopping:
            return "the gatekeeper is stopping"
        if not self._engine.committer.ready:
            return "the witness log does not take records"
        return None

    def _record(self, event: str, **payload: str | int | None) -> None:
        """Queue a witness record of the daemon's own; a disk that stands still must not hold up what comes next."""
        commit = self._gatekeeper.announce(Record(event, secrets.token_hex(16), payload), boottime())
        self._engine.perform([commit])

    async def _drain(self) -> None:
        self._engine.disarm()
        self._record("gatekeeper.stopped", version=__version__)
        self._engine.disarm()
        try:
            await asyncio.wait_for(self._engine.committer.drain(), DRAIN_S)
        except TimeoutError:
            _log.error("stopping although %d records are not durable", self._engine.committer.lag_records)

    async def _keep_house(self, ledger: Ledger, executor: ThreadPoolExecutor) -> None:
        """Once a second: sign what waits for a checkpoint, and tell the watchdog that this loop turns."""
        failing = False
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            notify("WATCHDOG=1")
            try:
                await _on(executor, ledger.checkpoint_if_due, time.time_ns())
            except GuardianError as error:
                if not failing:
                    _log.error("no checkpoint could be written: %s", error)
                failing = True
            else:
                failing = False


async def serve(config: Config, on_ready: Callable[[Ready], None]) -> None:
    """Run a daemon until SIGTERM or SIGINT. Raises what :meth:`Daemon.start` raises, GuardianError when it can't go on."""
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    daemon = Daemon(config)
    ready = await daemon.start()
    # What was made so far stays: later collections need not look at it (20 ms of pause for FastAPI alone).
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    on_ready(ready)
    try:
        while await _next_signal(signals, daemon) is signal.SIGHUP:
            await daemon.reload()
    finally:
        await daemon.stop()


async def _next_signal(signals: asyncio.Queue[signal.Signals], daemon: Daemon) -> signal.Signals:
    waiting, failed = asyncio.ensure_future(signals.get()), asyncio.ensure_future(daemon.failed.wait())
    try:
        await asyncio.wait((waiting, failed), return_when=asyncio.FIRST_COMPLETED)
        if not failed.done():
            return waiting.result()
    finally:
        waiting.cancel()
        failed.cancel()
    _log.critical("can't go on; start again from what is durable", exc_info=daemon.failure)
    raise GuardianError(f"can't go on: {daemon.failure}")


async def _on(executor: ThreadPoolExecutor, function: Callable[..., None], *arguments: object) -> None:
    await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)


async def _stop_all(servers: Iterable[HttpServer]) -> None:
    await asyncio.gather(*(server.stop() for server in servers))


def _private_directory(path: Path) -> None:
    """Make a directory for secrets, or see that nobody else may put anything into one that is there."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise ConfigurationError(error.strerror or str(error), path=path, field="state_directory") from error
    if mode & 0o022:
        raise ConfigurationError(f"mode {mode:04o} lets others write here: chmod 700 it", path=path, field="state_directory")


def _key(directory: Path, name: str) -> KeyPair:
    """Load a key of this node; made at the first start, with its public half beside it for others to pin."""
    path = directory / f"{name}.key"
    if not path.exists():
        create_key_file(path, KeyPair.generate())
    pair = load_key_file(path)
    (directory / f"{name}.pub").write_text(f"{format_public_key(pair.public)}\n")
    return pair


def _passwords(config: Config) -> dict[str, str]:
    path = config.gatekeeper.passwords_file
    return {} if path is None else load_passwords(path)


def _tokens(config: Config) -> tuple[ApiToken, ...]:
    """Load the API's tokens. Without a file of them there is one, made at the first start for who may read the state."""
    if config.http.tokens_file is not None:
        return load_tokens(config.http.tokens_file)
    path = config.state_directory / "api_token"
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{secrets.token_urlsafe(32)}\n")
    return (ApiToken(name="local operator", sha256=sha256(read_secret(path).strip().encode()).hexdigest()),)


def _given_certificate(config: Config) -> CertificateFiles | None:
    if config.http.certificate is None or config.http.private_key is None:
        return None
    read_secret(config.http.private_key)
    return CertificateFiles(config.http.certificate, config.http.private_key)


def _own_certificate(config: Config) -> CertificateFiles:
    files = ensure_self_signed(config.state_directory / "tls", local_names(config.http.bind))
    read_secret(files.private_key)
    return files


def _url(scheme: str, address: TransportAddress) -> str:
    host, port = address
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
