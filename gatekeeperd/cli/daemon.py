"""``gatekeeperd``: run the daemon, check its configuration, write its OpenAPI document.

What lives here: arguments, output and exit codes (0 done, 1 a fault or a finding, 2 wrong usage or configuration). What
never does: anything that a program could not ask ``gatekeeperd.daemon`` for. It is argparse, because a node has no typer.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import uvloop
import yaml

from gatekeeperd import __version__, logs
from gatekeeperd.config import (
    HTTP_PORT,
    METRICS_PORT,
    RAS_PORT,
    Config,
    default_state_directory,
    load_config,
    load_passwords,
    load_tokens,
    standalone,
)
from gatekeeperd.core.settings import CallModel
from gatekeeperd.daemon import Ready, serve
from gatekeeperd.errors import ConfigurationError, GuardianError
from gatekeeperd.net.api import create_app
from gatekeeperd.net.certificate import CertificateFiles, server_context
from gatekeeperd.policy.registry import load_registry

_T = TypeVar("_T")

#: What sets ``--standalone`` up and would be lost on ``--config``, as argparse names it.
_STANDALONE: Final = (
    "bind",
    "registry",
    "state",
    "port",
    "http_port",
    "metrics_port",
    "call_model",
    "allow_unsigned",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except GuardianError as error:
        _complain(str(error))
        return 2 if isinstance(error, ConfigurationError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("gatekeeperd", description="The Guardian Council's H.323 gatekeeper.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the daemon in the foreground")
    run.set_defaults(command=_run)
    source = run.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="FILE", help="gatekeeperd.yaml, which says everything")
    source.add_argument("--standalone", action="store_true", help="one node, as an ordinary user, set up by the options below")
    # Without defaults here, so that what was given can be told from what was not.
    own = run.add_argument_group("of --standalone", argument_default=argparse.SUPPRESS)
    own.add_argument("--bind", action="append", metavar="ADDRESS", help="one IPv4 and one IPv6 address at most (127.0.0.1)")
    own.add_argument("--registry", type=Path, metavar="FILE", help="guardian-registry.yaml")
    own.add_argument("--state", type=Path, metavar="DIR", help=f"keys, journal, witness log ({default_state_directory()})")
    own.add_argument("--port", type=int, help=f"RAS, UDP; 0 lets the kernel choose ({RAS_PORT})")
    own.add_argument("--http-port", type=int, help=f"HTTPS API; 0 likewise ({HTTP_PORT})")
    own.add_argument("--metrics-port", type=int, help=f"metrics; 0 likewise ({METRICS_PORT})")
    models = [model.value for model in CallModel]
    own.add_argument("--call-model", choices=models, help=f"({CallModel.GATEKEEPER_ROUTED.value})")
    own.add_argument("--allow-unsigned", action="store_true", help="let terminals in that prove nothing: for trying out")
    run.add_argument("--log-format", choices=("text", "json"), help="of the log on standard error (text)")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="(info)")
    run.add_argument("--print-json", action="store_true", help="when ready, print one line of JSON with all addresses")

    check = commands.add_parser("check-config", help="say what is wrong in a configuration, or what it would run")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(command=_check)

    openapi = commands.add_parser("openapi", help="print the OpenAPI document of the HTTPS API")
    openapi.set_defaults(command=_openapi)
    return parser


def _run(options: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(options).items() if name in _STANDALONE}
    if options.config is not None:
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ConfigurationError(f"{names} can't be given with --config: say it in {options.config}")
        config = load_config(options.config)
    elif "registry" not in given:
        raise ConfigurationError("--standalone needs --registry FILE")
    else:
        config = standalone(
            bind=tuple(given.get("bind", ("127.0.0.1",))),
            registry=given["registry"],
            state_directory=given.get("state", default_state_directory()),
            port=given.get("port", RAS_PORT),
            http_port=given.get("http_port", HTTP_PORT),
            metrics_port=given.get("metrics_port", METRICS_PORT),
            call_model=CallModel(given.get("call_model", CallModel.GATEKEEPER_ROUTED)),
            allow_unsigned="allow_unsigned" in given,
        )
    logs.configure(options.log_format or config.log.format, options.log_level or config.log.level)
    tell = _tell_json if options.print_json else _tell
    uvloop.run(serve(config, tell))
    return 0


def _tell_json(ready: Ready) -> None:
    _print(f"{ready.to_json()}\n")


def _tell(ready: Ready) -> None:
    facts = {
        "gatekeeper": f"{ready.gatekeeper_identifier} on node {ready.node}, epoch {ready.epoch}, process {ready.pid}",
        "RAS": ", ".join(f"{host} port {port}/udp" for host, port in (*ready.ras, *ready.multicast)),
        "HTTPS API": f"{ready.http} (documents at {ready.http}/docs)",
        "certificate": ready.certificate,
        "metrics": ready.metrics,
        "service key": f"{ready.service_public_key} ({ready.service_public_key_file})",
        "node key": f"{ready.node_public_key} ({ready.node_public_key_file}), signs the witness log",
        "witness log": ready.witness,
    }
    _table(facts)


def _check(options: argparse.Namespace) -> int:
    """Print every fault of the configuration and of the files it names; without any, what would run."""
    config = load_config(options.file)
    faults: list[str] = []

    def examine(read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except ConfigurationError as error:
            faults.append(str(error))
            return None

    registry = examine(lambda: load_registry(config.registry))
    gatekeeper, http = config.gatekeeper, config.http
    if gatekeeper.passwords_file is not None:
        passwords = gatekeeper.passwords_file
        examine(lambda: load_passwords(passwords))
    if http.tokens_file is not None:
        tokens = http.tokens_file
        examine(lambda: load_tokens(tokens))
    if http.certificate is not None and http.private_key is not None:
        pair = CertificateFiles(http.certificate, http.private_key)
        examine(lambda: server_context(pair))
    for fault in faults:
        _complain(fault)
    if faults or registry is None:
        return 1
    _table(_summary(config) | {"registry": f"{config.registry}: {len(registry)} guardians, SHA-256 {registry.digest}"})
    return 0


def _summary(config: Config) -> dict[str, str]:
    gatekeeper, limits = config.gatekeeper, config.limits
    return {
        "node": config.node,
        "gatekeeper": f"{gatekeeper.identifier}, call model {gatekeeper.call_model.value}, TTL {gatekeeper.time_to_live_s} s"
        + (", unsigned terminals let in" if gatekeeper.allow_unsigned else "")
        + (", pre-granted ARQ" if gatekeeper.pre_grant else ""),
        "RAS": f"{', '.join(config.ras.bind)} port {config.ras.port}/udp"
        + (", multicast discovery" if config.ras.multicast else ""),
        "HTTPS API": f"{', '.join(config.http.bind)} port {config.http.port}, "
        + ("the operator's certificate" if config.http.certificate else "a self-signed certificate"),
        "metrics": f"{', '.join(config.metrics.bind)} port {config.metrics.port}",
        "state": str(config.state_directory),
        "witness log": f"{config.witness_directory}, kept {config.witness.retention_days} days",
        "limits": f"{limits.total_bps / 1e6:g} Mbit/s in all, {limits.per_call_bps / 1e6:g} a call, "
        f"{limits.calls_per_guardian} calls a guardian, {limits.room_participants} participants a room",
        "neighbours": ", ".join(config.neighbours) or "none",
        "alternates": ", ".join(f"{alternate.host} port {alternate.port}" for alternate in config.alternates) or "none",
    }


def _openapi(_options: argparse.Namespace) -> int:
    _print(yaml.safe_dump(create_app().openapi(), sort_keys=False, allow_unicode=True, width=120))
    return 0


def _table(facts: dict[str, str]) -> None:
    width = max(map(len, facts))
    _print("".join(f"{name:<{width}}  {fact}\n" for name, fact in facts.items()))


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`) has what it wanted. Python flushes once more at its exit, which must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str) -> None:
    line = f"\033[31m{message}\033[0m" if sys.stderr.isatty() else message
    print(line, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
