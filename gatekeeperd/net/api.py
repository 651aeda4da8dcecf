"""The HTTPS API: vouching for terminals that can't sign, and looking at and ending sessions.

What lives here: routes, who may use them, and the translation of the core's answers into status codes. What never does:
gates (the core asks them) and sockets (``http_server.py``). No answer leaves before the core's commit is durable.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from gatekeeperd import __version__
from gatekeeperd.config import ApiToken
from gatekeeperd.core.actions import Commit
from gatekeeperd.core.gatekeeper import SessionView
from gatekeeperd.core.ras.vouching import AdmissionAnswer, VouchedAdmission
from gatekeeperd.errors import CanonicalError, SecurityError
from gatekeeperd.net.api_guard import Guard, failure_response
from gatekeeperd.net.api_models import (
    AdmissionBody,
    Admitted,
    Failure,
    GateOutcome,
    Health,
    Reason,
    Revoked,
    SessionBody,
    Sessions,
)
from gatekeeperd.net.clock import boottime, wall
from gatekeeperd.net.signed_request import SIGNATURE_HEADER, verify_request
from gatekeeperd.policy.limits import SourceLimiter
from gatekeeperd.policy.registry import Guardian, Registry
from gatekeeperd.security.replay import SeenOnce

#: A client that waits longer for durability is told to ask again; the decision stands or falls with its commit.
COMMIT_S: Final = 10.0

_log = logging.getLogger(__name__)

_MEANING: Final = {
    400: "malformed; `field` names the part",
    401: "the signature or the credential does not hold",
    403: "no active guardian of the registry",
    404: "no such session, or somebody else's",
    413: "the body is too large",
    422: "against policy: personal data, or more bandwidth than is granted",
    429: "too many requests from this address",
    500: "an error of the gatekeeper's own",
    503: "no capacity, or not ready",
}


class Admissions(Protocol):
    """The part of :class:`gatekeeperd.core.gatekeeper.Gatekeeper` that this API uses."""

    @property
    def registry(self) -> Registry:
        """The guardians as of the last good reload."""
        ...

    def admit(self, request: VouchedAdmission, now: float) -> tuple[AdmissionAnswer, Commit]:
        """Judge a vouching."""
        ...

    def revoke(self, session_id: str, now: float) -> Commit | None:
        """End a session."""
        ...

    def sessions(self, now: float) -> list[SessionView]:
        """List sessions."""
        ...


@dataclass(frozen=True, slots=True)
class ApiContext:
    """What the routes work on.

    ``commit`` returns when a commit is durable; ``why_not_ready`` gives a reason or ``None``; ``tokens`` the bearer
    tokens of the moment; ``limiter`` bounds requests by source; ``seen`` remembers nonces of signed requests
    since ``started`` (POSIX seconds).
    """

    admissions: Admissions
    commit: Callable[[Commit], Awaitable[None]]
    why_not_ready: Callable[[], str | None]
    tokens: Callable[[], tuple[ApiToken, ...]]
    limiter: SourceLimiter
    seen: SeenOnce
    started: float


def create_app(context: ApiContext | None = None) -> FastAPI:
    """Build the application. Without a context it serves for its OpenAPI document alone."""
    app = _Api(
        title="Guardian Council gatekeeper",
        version="1",
        description="Admission of H.323 terminals by a guardian's word, and a look at what was admitted.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={
            _Refused: _refused,
            RequestValidationError: _malformed,
            HTTPException: _http_error,
        },
    )
    app.state.context = context
    app.add_middleware(Guard, admit_source=_admit_source)
    app.post(
        "/api/admission/request", summary="Vouch for a terminal", responses=_failures(400, 401, 403, 413, 422, 429, 500, 503)
    )(request_admission)
    app.delete("/api/admission/session/{session_id}", summary="End a session", responses=_failures(400, 401, 404, 429, 500, 503))(
        revoke_session
    )
    app.get("/api/admission/sessions", summary="List sessions", responses=_failures(400, 401, 429, 500))(list_sessions)
    app.get("/healthz", summary="Does the process answer?")(health)
    app.get("/readyz", summary="Would a request be served?", responses=_failures(503))(readiness)
    # An appliance is often without Internet access, so nothing of the page comes from elsewhere.
    app.mount("/docs/static", StaticFiles(packages=[("fastapi_offline", "static")]))
    app.get("/docs", include_in_schema=False)(documentation)
    return app


async def documentation() -> HTMLResponse:
    """Show the interface, to read and to try out (Swagger UI)."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Guardian Council gatekeeper",
        swagger_js_url="/docs/static/swagger-ui-bundle.js",
        swagger_css_url="/docs/static/swagger-ui.css",
        swagger_favicon_url="/docs/static/favicon.png",
    )


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Describe what the API really does: a malformed request is 400, never FastAPI's own 422."""
        if self.openapi_schema is None:
            document = super().openapi()
            for operations in document["paths"].values():
                for operation in operations.values():
                    unlike = operation["responses"].get("422")
                    if unlike is not None and unlike["description"] != _MEANING[422]:
                        del operation["responses"]["422"]
            for name in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(name, None)
        return self.openapi_schema or {}


class _Refused(Exception):
    def __init__(self, status: int, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.status = status
        self.failure = failure


def _refuse(status: int, reason: Reason, detail: str, trace_id: str | None = None) -> _Refused:
    return _Refused(status, Failure(reason=reason, detail=detail, trace_id=trace_id or secrets.token_hex(16)))


def _context(request: Request) -> ApiContext:
    context: ApiContext = request.app.state.context
    return context


async def _context_of(request: Request) -> ApiContext:
    return _context(request)


_bearer = HTTPBearer(auto_error=False, description="an operator's token")
_signature = APIKeyHeader(
    name=SIGNATURE_HEADER,
    auto_error=False,
    description="a guardian's signature, with X-Guardian-Id, X-Guardian-Timestamp and X-Guardian-Nonce",
)


async def _caller(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    signature: Annotated[str | None, Depends(_signature)],
) -> Guardian | None:
    """Return who asks: a guardian by its signature, or ``None`` for an operator by a token."""
    context = _context(request)
    if bearer is not None and _is_token(bearer.credentials, context.tokens()):
        return None
    if signature is not None:
        try:
            return verify_request(
                request.method,
                request.url.path,
                request.headers,
                context.admissions.registry,
                wall=wall(boottime()),
                started=context.started,
                seen=context.seen,
            )
        except SecurityError as error:
            _log.warning("refused %s %s: %s", request.method, request.url.path, error)
    raise _refuse(401, Reason.NOT_AUTHENTICATED, "a valid bearer token or a guardian's signature is needed")


def _is_token(presented: str, tokens: tuple[ApiToken, ...]) -> bool:
    digest = sha256(presented.encode()).hexdigest()
    # Every token is compared, so that the time tells nothing about which.
    return sum(hmac.compare_digest(digest, token.sha256) for token in tokens) > 0


Context = Annotated[ApiContext, Depends(_context_of)]
Caller = Annotated[Guardian | None, Depends(_caller)]


async def request_admission(body: AdmissionBody, context: Context) -> Admitted:
    """Judge a signed vouching by the five gates; the decision is on the witness record before this answers."""
    if (why := context.why_not_ready()) is not None:
        raise _refuse(503, Reason.NOT_READY, why)
    answer, commit = context.admissions.admit(VouchedAdmission(**body.model_dump()), boottime())
    await _durable(context, commit, answer.trace_id)
    if answer.reason is not None:
        raise _refuse(answer.reason.http_status, Reason(answer.reason.value), answer.detail, answer.trace_id)
    return Admitted(
        session_id=answer.session_id,
        bandwidth_bps=answer.bandwidth_bps,
        expires_in_s=answer.expires_in_s,
        gates=[
            GateOutcome(gate=gate.gate.value, passed=gate.passed, rule=gate.rule, detail=gate.detail) for gate in answer.gates
        ],
        trace_id=answer.trace_id,
    )


async def revoke_session(
    session_id: Annotated[str, Path(pattern="^[0-9A-Za-z_-]{1,64}$")], context: Context, caller: Caller
) -> Revoked:
    """End a session: its endpoint is disengaged or unregistered. A guardian may end its own sessions only."""
    # Another's session is answered like none at all: whether it exists is nobody's business.
    may = caller is None or any(
        view.session_id == session_id and view.terminal_id == caller.terminal_id
        for view in context.admissions.sessions(boottime())
    )
    if may and (why := context.why_not_ready()) is not None:
        raise _refuse(503, Reason.NOT_READY, why)
    commit = context.admissions.revoke(session_id, boottime()) if may else None
    if commit is None:
        raise _refuse(404, Reason.NOT_FOUND, "no such session")
    await _durable(context, commit, None)
    return Revoked(session_id=session_id)


async def list_sessions(context: Context, caller: Caller, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> Sessions:
    """List sessions, calls before vouchers, each by admission; a guardian sees its own only."""
    views = [view for view in context.admissions.sessions(boottime()) if caller is None or view.terminal_id == caller.terminal_id]
    shown = [SessionBody(**asdict(view)) for view in views[:limit]]
    return Sessions(sessions=shown, total=len(views))


async def health() -> Health:
    """Answer as long as the event loop turns."""
    return Health(version=__version__)


async def readiness(context: Context) -> Health:
    """Answer 503 with the reason while no admission could be made durable."""
    if (why := context.why_not_ready()) is not None:
        raise _refuse(503, Reason.NOT_READY, why)
    return Health(version=__version__)


async def _durable(context: ApiContext, commit: Commit, trace_id: str | None) -> None:
    try:
        await asyncio.wait_for(context.commit(commit), COMMIT_S)
    except TimeoutError:
        raise _refuse(503, Reason.NOT_READY, "the witness log does not take records; ask again", trace_id) from None
    except CanonicalError:
        raise _refuse(500, Reason.GATEKEEPER_ERROR, "the decision could not be recorded", trace_id) from None


def _admit_source(app: FastAPI, host: str) -> bool:
    context: ApiContext = app.state.context
    return context.limiter.take(host, boottime())


def _failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Failure, "description": _MEANING[status]} for status in statuses}


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, _Refused)  # noqa: S101 - registered for this class alone
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return failure_response(error.status, error.failure, headers)


async def _malformed(_request: Request, error: Exception) -> JSONResponse:
    """Name the first wrong field; FastAPI's own answer would repeat what was sent, signature and all."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    # ("body", "bandwidth_bps") and the like; broken JSON has the offset in second place.
    field = None if first["type"] == "json_invalid" else ".".join(str(part) for part in first["loc"][1:]) or None
    failure = Failure(reason=Reason.MALFORMED, detail=first["msg"], field=field, trace_id=secrets.token_hex(16))
    return failure_response(400, failure)


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    reasons = {404: Reason.NOT_FOUND, 405: Reason.METHOD_NOT_ALLOWED, 400: Reason.MALFORMED}
    reason = reasons.get(error.status_code, Reason.GATEKEEPER_ERROR)
    failure = Failure(reason=reason, detail=str(error.detail), trace_id=secrets.token_hex(16))
    return failure_response(error.status_code, failure, error.headers)
