"""What every HTTP request passes before any route sees it, and the shape of every refusal.

What lives here: the bounds on size and rate, response headers, and the answer to a fault of ours. What never does:
anything about admission.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatekeeperd.net.api_models import Failure, Reason

#: A vouching has 0.6 KiB.
MAX_BODY: Final = 16 * 1024
#: Of a body that is too large so much is read and thrown away: closing with unread input would reset the connection,
#: and the client would never read why.
MAX_DISCARDED: Final = 256 * 1024

_HEADERS: Final = {
    # Answers tell of sessions and decisions.
    b"cache-control": b"no-store",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}
_JSON_POLICY: Final = b"default-src 'none'; frame-ancestors 'none'"
#: FastAPI's page has a script of its own inline; it holds no credential but what its user types in.
_DOCS_POLICY: Final = (
    b"default-src 'none'; connect-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; frame-ancestors 'none'"
)


_log = logging.getLogger(__name__)


class Guard:
    """ASGI middleware: rate by source for ``/api``, body size, headers. ``admit_source(app, host)`` says who is too fast."""

    def __init__(self, app: ASGIApp, *, admit_source: Callable[[Any, str], bool]) -> None:
        self._app = app
        self._admit_source = admit_source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                policy = _DOCS_POLICY if scope["path"] == "/docs" else _JSON_POLICY
                message["headers"] = [*message["headers"], *_HEADERS.items(), (b"content-security-policy", policy)]
            await send(message)

        host = scope["client"][0] if scope.get("client") else ""
        if scope["path"].startswith("/api/") and not self._admit_source(scope["app"], host):
            refusal = _refusal(429, Reason.RATE_LIMITED, "too many requests from this address", {"Retry-After": "1"})
            await refusal(scope, receive, send_with_headers)
            return
        body = await _bounded_body(receive)
        if body is None:
            refusal = _refusal(413, Reason.TOO_LARGE, f"more than {MAX_BODY} octets", {"Connection": "close"})
            await refusal(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, _Replay(body, receive), send_with_headers)
        except Exception:
            # Here rather than in a handler of FastAPI's, which would answer, raise again, and have it logged twice.
            trace_id = secrets.token_hex(16)
            _log.exception("trace %s: %s %s failed", trace_id, scope["method"], scope["path"])
            if begun:
                raise
            detail = "an error of the gatekeeper's own, logged under this trace_id"
            failure = Failure(reason=Reason.GATEKEEPER_ERROR, detail=detail, trace_id=trace_id)
            await failure_response(500, failure)(scope, receive, send_with_headers)


class _Replay:
    """Gives the application a body that was read already, then whatever comes after it (a disconnect)."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _bounded_body(receive: Receive) -> bytes | None:
    """Read the body; ``None`` if it is too large."""
    body = bytearray()
    size = 0
    while True:
        message = await receive()
        octets = b"" if message["type"] == "http.disconnect" else message.get("body", b"")
        size += len(octets)
        if size <= MAX_BODY:
            body += octets
        if size > MAX_DISCARDED or not message.get("more_body", False):
            return bytes(body) if size <= MAX_BODY else None


def failure_response(status: int, failure: Failure, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Make the one kind of answer that is not a success."""
    return JSONResponse(failure.model_dump(mode="json"), status, headers)


def _refusal(status: int, reason: Reason, detail: str, headers: Mapping[str, str]) -> JSONResponse:
    return failure_response(status, Failure(reason=reason, detail=detail, trace_id=secrets.token_hex(16)), headers)
