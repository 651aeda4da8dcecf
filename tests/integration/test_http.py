"""The HTTPS API over real TLS against the real gatekeeper: who may, what each refusal is called, and what clients can't do."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_daemon import Council, client, make_config, make_council, operator, running, until, vouching, witness_events

from gatekeeperd.config import Config
from gatekeeperd.core.actions import Record
from gatekeeperd.daemon import Daemon, Ready
from gatekeeperd.errors import StoreError
from gatekeeperd.net import http_server
from gatekeeperd.net.signed_request import sign_request
from gatekeeperd.security.keys import KeyPair, format_public_key

REQUEST = "/api/admission/request"
SESSIONS = "/api/admission/sessions"


@pytest.fixture(scope="module")
def council(tmp_path_factory: pytest.TempPathFactory) -> Council:
    return make_council(tmp_path_factory.mktemp("council"))


@pytest.fixture
def config(tmp_path: Path, council: Council) -> Config:
    return make_config(tmp_path, council, http={"requests_per_s": 1000.0, "burst": 1000})


@pytest.fixture
async def ready(config: Config) -> AsyncIterator[Ready]:
    async with running(config) as (_, started):
        yield started


@pytest.fixture
async def http(ready: Ready) -> AsyncIterator[httpx.AsyncClient]:
    async with client(ready) as opened:
        yield opened


def refusal(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert set(body) == {"reason", "detail", "field", "trace_id"}
    assert len(bytes.fromhex(body["trace_id"])) == 16
    return response.status_code, body["reason"]


async def test_a_vouching_is_admitted_listed_and_on_the_witness_record(
    http: httpx.AsyncClient, ready: Ready, council: Council
) -> None:
    response = await http.post(REQUEST, json=vouching(council.guardian(0)))
    answer = response.json()
    assert response.status_code == 200
    assert answer["admitted"] is True
    assert answer["bandwidth_bps"] == 512_000
    assert [gate["gate"] for gate in answer["gates"]] == ["authenticity", "registry", "pii", "fairness", "capacity"]
    listed = (await http.get(SESSIONS, headers=operator(ready))).json()
    assert listed["total"] == 1
    session = listed["sessions"][0]
    assert (session["session_id"], session["terminal_id"]) == (answer["session_id"], council.guardian(0).terminal_id)
    assert ("voucher.granted", answer["trace_id"]) in {(record["event"], record["trace_id"]) for record in witness_events(ready)}


@pytest.mark.parametrize(
    ("changed", "status", "reason"),
    [
        ({"has_pii": True, "call_type": "ESCALATE"}, 422, "PII_POLICY_VIOLATION"),
        ({"bandwidth_bps": 2_600_000}, 422, "BANDWIDTH_EXCEEDED"),
        ({"timestamp": int(time.time()) - 3600}, 401, "INVALID_SIGNATURE"),
        ({"terminal_id": "if://guardian/nobody"}, 403, "NOT_REGISTERED"),
        ({"public_key": format_public_key(KeyPair.generate().public)}, 401, "INVALID_SIGNATURE"),
    ],
)
async def test_each_gate_has_its_status(
    http: httpx.AsyncClient, council: Council, changed: dict[str, Any], status: int, reason: str
) -> None:
    assert refusal(await http.post(REQUEST, json=vouching(council.guardian(0), **changed))) == (status, reason)


async def test_a_full_room_is_503(tmp_path: Path, council: Council) -> None:
    limits = {"room_participants": 1}
    async with running(make_config(tmp_path, council, limits=limits)) as (_, ready), client(ready) as http:
        first = await http.post(REQUEST, json=vouching(council.guardian(0)))
        second = await http.post(REQUEST, json=vouching(council.guardian(1), endpoint_alias="room-2"))
    assert first.status_code == 200
    assert refusal(second) == (503, "CAPACITY_EXCEEDED")


async def test_a_body_is_taken_once_and_only_as_it_was_signed(http: httpx.AsyncClient, council: Council) -> None:
    body = vouching(council.guardian(0))
    assert refusal(await http.post(REQUEST, json=body | {"endpoint_alias": "other"})) == (401, "INVALID_SIGNATURE")
    assert (await http.post(REQUEST, json=body)).status_code == 200
    assert refusal(await http.post(REQUEST, json=body)) == (401, "INVALID_SIGNATURE")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"bandwidth_bps": "512000"}, "bandwidth_bps"),
        ({"bandwidth_bps": -1}, "bandwidth_bps"),
        ({"bandwidth_bps": 1.5}, "bandwidth_bps"),
        ({"bandwidth_bps": True}, "bandwidth_bps"),
        ({"call_type": "URGENT"}, "call_type"),
        ({"has_pii": "no"}, "has_pii"),
        ({"nonce": "AA"}, "nonce"),
        ({"timestamp": None}, "timestamp"),
        ({"signature": "ed25519:00"}, "signature"),
        ({"endpoint_address": "room.example"}, "endpoint_address"),
        ({"endpoint_alias": ""}, "endpoint_alias"),
        ({"call_id": "x" * 129}, "call_id"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_malformed_is_400_and_names_the_field(
    http: httpx.AsyncClient, council: Council, changed: dict[str, Any], field: str
) -> None:
    body = vouching(council.guardian(0)) | changed
    response = await http.post(REQUEST, json=body)
    assert refusal(response) == (400, "MALFORMED")
    assert response.json()["field"] == field
    assert body["signature"][8:] not in response.text or field == "signature"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": "\\ud800"}', b"\xff", b"[" * 5000, b"1e400"])
async def test_what_is_no_json_object_is_400(http: httpx.AsyncClient, content: bytes) -> None:
    response = await http.post(REQUEST, content=content, headers={"content-type": "application/json"})
    assert refusal(response) == (400, "MALFORMED")


async def test_an_oversized_body_is_413_whether_announced_or_not(http: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 1024

    assert refusal(await http.post(REQUEST, content=b" " * 20_000)) == (413, "TOO_LARGE")
    assert refusal(await http.post(REQUEST, content=chunks())) == (413, "TOO_LARGE")
    assert (await http.get("/healthz")).status_code == 200


async def test_what_is_not_there_has_the_same_body(http: httpx.AsyncClient) -> None:
    assert refusal(await http.get("/api/nothing")) == (404, "NOT_FOUND")
    assert refusal(await http.get(REQUEST)) == (405, "METHOD_NOT_ALLOWED")


async def test_sessions_need_a_credential(http: httpx.AsyncClient, ready: Ready) -> None:
    token = operator(ready)["Authorization"]
    for headers in ({}, {"Authorization": token + "x"}, {"Authorization": "Bearer \xe9"}):
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        assert refusal(await http.get(SESSIONS, headers=encoded)) == (401, "NOT_AUTHENTICATED")
        assert refusal(await http.delete("/api/admission/session/abc", headers=encoded)) == (401, "NOT_AUTHENTICATED")
    assert (await http.get(SESSIONS, headers=operator(ready))).json() == {"sessions": [], "total": 0}


async def test_an_operator_ends_any_session_once(http: httpx.AsyncClient, ready: Ready, council: Council) -> None:
    session = (await http.post(REQUEST, json=vouching(council.guardian(0)))).json()["session_id"]
    path = f"/api/admission/session/{session}"
    assert (await http.delete(path, headers=operator(ready))).json() == {"session_id": session, "revoked": True}
    assert refusal(await http.delete(path, headers=operator(ready))) == (404, "NOT_FOUND")
    assert refusal(await http.delete("/api/admission/session/..%2f", headers=operator(ready))) == (404, "NOT_FOUND")
    assert refusal(await http.delete("/api/admission/session/a%00b", headers=operator(ready))) == (400, "MALFORMED")


async def test_a_guardian_sees_and_ends_its_own_sessions_only(http: httpx.AsyncClient, council: Council) -> None:
    mine, theirs = council.guardian(0), council.guardian(1)
    session = (await http.post(REQUEST, json=vouching(mine))).json()["session_id"]
    path, now = f"/api/admission/session/{session}", int(time.time())

    async def seen_by(key: KeyPair) -> int:
        return (await http.get(SESSIONS, headers=sign_request("GET", SESSIONS, key, timestamp=now))).json()["total"]

    assert (await seen_by(mine), await seen_by(theirs)) == (1, 0)
    assert refusal(await http.delete(path, headers=sign_request("DELETE", path, theirs, timestamp=now))) == (404, "NOT_FOUND")
    assert await seen_by(mine) == 1
    assert (await http.delete(path, headers=sign_request("DELETE", path, mine, timestamp=now))).status_code == 200
    assert await seen_by(mine) == 0


async def test_a_signed_request_can_be_neither_repeated_nor_moved_nor_altered(http: httpx.AsyncClient, council: Council) -> None:
    key, now = council.guardian(0), int(time.time())
    good = sign_request("GET", SESSIONS, key, timestamp=now)
    path = "/api/admission/session/abc"
    other = sign_request("GET", SESSIONS, council.guardian(1), timestamp=now)
    stranger = KeyPair.generate(key.terminal_id)
    attempts = [
        good | {"X-Guardian-Id": other["X-Guardian-Id"]},
        good | {"X-Guardian-Timestamp": str(now + 1)},
        good | {"X-Guardian-Nonce": other["X-Guardian-Nonce"]},
        {name: value for name, value in good.items() if name != "X-Guardian-Nonce"},
        sign_request("GET", SESSIONS, key, timestamp=now - 60),
        sign_request("GET", SESSIONS, key, timestamp=now + 60),
        sign_request("GET", path, key, timestamp=now),
        sign_request("DELETE", SESSIONS, key, timestamp=now),
        sign_request("GET", SESSIONS, stranger, timestamp=now),
        sign_request("GET", SESSIONS, KeyPair.generate("if://guardian/nobody"), timestamp=now),
    ]
    for attempt in attempts:
        assert refusal(await http.get(SESSIONS, headers=attempt)) == (401, "NOT_AUTHENTICATED")
    assert (await http.get(SESSIONS, headers=good)).status_code == 200
    assert refusal(await http.get(SESSIONS, headers=good)) == (401, "NOT_AUTHENTICATED")


async def test_one_source_is_held_to_its_rate(tmp_path: Path, council: Council) -> None:
    config = make_config(tmp_path, council, http={"burst": 3, "requests_per_s": 0.001})
    async with running(config) as (_, ready), client(ready) as http:
        statuses = [(await http.get(SESSIONS)).status_code for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        assert refusal(await http.post(REQUEST, json={})) == (429, "RATE_LIMITED")
        assert (await http.get("/readyz")).status_code == 200  # health checks are not limited


async def test_no_admission_leaves_while_the_ledger_takes_no_records(
    config: Config, council: Council, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatekeeperd.net.api.COMMIT_S", 0.1)
    async with running(config) as (daemon, ready), client(ready) as http:

        async def is_ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        async def is_not_ready() -> bool:
            return not await is_ready()

        with failing_ledger(daemon):
            assert refusal(await http.post(REQUEST, json=vouching(council.guardian(0)))) == (503, "NOT_READY")
            await until(is_not_ready)
            assert refusal(await http.get("/readyz")) == (503, "NOT_READY")
            assert refusal(await http.post(REQUEST, json=vouching(council.guardian(1)))) == (503, "NOT_READY")
            assert (await http.get("/healthz")).status_code == 200
        await until(is_ready)
        assert (await http.get(SESSIONS, headers=operator(ready))).json()["total"] == 1
        assert [record["event"] for record in witness_events(ready)].count("voucher.granted") == 1


@contextmanager
def failing_ledger(daemon: Daemon) -> Iterator[None]:
    """Make every write fail while the context lasts, as a full disk would."""
    committer = daemon._engine.committer
    real = committer._store

    def fail(_commits: object) -> None:
        raise StoreError("disk full")

    committer._store = fail
    yield
    committer._store = real


async def test_a_fault_of_ours_is_500_and_told_to_the_log_alone(
    config: Config, council: Council, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError("a secret")

    async with running(config) as (daemon, ready), client(ready) as http:
        monkeypatch.setattr(daemon._gatekeeper, "admit", fail)
        response = await http.post(REQUEST, json=vouching(council.guardian(0)))
        assert refusal(response) == (500, "GATEKEEPER_ERROR")
        assert "secret" not in response.text
        assert response.json()["trace_id"] in caplog.text
        assert (await http.get("/readyz")).status_code == 200


async def test_a_record_that_can_not_be_written_is_500_and_stops_nothing(
    config: Config, council: Council, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(config) as (daemon, ready), client(ready) as http:
        real = daemon._gatekeeper.admit

        def admit(*arguments: Any) -> Any:
            answer, commit = real(*arguments)
            return answer, replace(commit, records=(Record("test", "0" * 32, {"float": 0.5}),))

        monkeypatch.setattr(daemon._gatekeeper, "admit", admit)
        assert refusal(await http.post(REQUEST, json=vouching(council.guardian(0)))) == (500, "GATEKEEPER_ERROR")
        monkeypatch.undo()
        again = vouching(council.guardian(1), endpoint_alias="room-2")
        assert (await http.post(REQUEST, json=again)).status_code == 200


async def test_only_tls_is_spoken_and_the_certificate_names_the_server(ready: Ready) -> None:
    port = int(ready.http.rpartition(":")[2])
    trust = ssl.create_default_context(cafile=ready.certificate)
    for name in ("127.0.0.1", "localhost", socket.gethostname()):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=name)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.close()
        await writer.wait_closed()
    old = ssl.create_default_context(cafile=ready.certificate)
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=old)
    async with httpx.AsyncClient(trust_env=False) as plain:
        with pytest.raises(httpx.HTTPError):
            await plain.get(f"http://127.0.0.1:{port}/healthz")


async def test_answers_are_neither_cached_nor_framed(http: httpx.AsyncClient) -> None:
    response = await http.get("/healthz")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert "server" not in response.headers
    documents = await http.get("/docs")
    assert documents.status_code == 200
    sources = re.findall(r'(?:src|href)="([^"]+)"', documents.text)
    assert len(sources) >= 3
    for source in sources:
        assert (await http.get(source)).status_code == 200, "everything the page needs comes from here"


async def test_slow_and_greedy_clients_are_cut_off(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "CONNECTION_S", 0.3)
    monkeypatch.setattr(http_server, "HANDSHAKE_S", 0.3)
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS_PER_SOURCE", 3)
    async with running(config) as (_, ready):
        port = int(ready.http.rpartition(":")[2])
        trust = ssl.create_default_context(cafile=ready.certificate)
        # Never begins a handshake.
        mute, mute_writer = await asyncio.open_connection("127.0.0.1", port)
        # Never ends its headers.
        slow, slow_writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
        slow_writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        others = [await asyncio.open_connection("127.0.0.1", port, ssl=trust) for _ in range(2)]
        greedy, greedy_writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
        for reader in (mute, slow, greedy):
            assert await asyncio.wait_for(read_to_end(reader), 5) == b""
        for writer in (mute_writer, slow_writer, greedy_writer, *(writer for _, writer in others)):
            writer.close()
        async with client(ready) as http:
            assert (await http.get("/healthz")).status_code == 200


async def test_the_number_of_connections_is_bounded(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 2)
    async with running(config) as (_, ready), client(ready) as http:
        assert (await http.get("/healthz")).status_code == 200  # holds one
        port = int(ready.http.rpartition(":")[2])
        trust = ssl.create_default_context(cafile=ready.certificate)
        opened = [await asyncio.open_connection("127.0.0.1", port, ssl=trust) for _ in range(2)]
        assert await asyncio.wait_for(read_to_end(opened[1][0]), 5) == b""
        assert (await http.get("/healthz")).status_code == 200
        for _, writer in opened:
            writer.close()


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""
