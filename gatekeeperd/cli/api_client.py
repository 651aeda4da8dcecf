"""What ``councilctl admit`` and ``councilctl sessions`` share: reaching the HTTPS API and reading its answers.

What lives here: options, TLS trust, and errors in one line. What never does: tables.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from gatekeeperd.errors import ApiError, ConfigurationError

Url = Annotated[str, typer.Option(envvar="GATEKEEPERD_URL", metavar="URL", help="the gatekeeper's HTTPS API")]
Ca = Annotated[
    Path | None,
    typer.Option(envvar="GATEKEEPERD_CA", metavar="FILE", help="trust this certificate (PEM), e.g. the self-signed one"),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="trust any certificate: for trying out")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]

DEFAULT_URL = "https://127.0.0.1:8443"
_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A status code and the JSON object that came with it."""

    status: int
    body: dict[str, Any]

    @property
    def succeeded(self) -> bool:
        """Whether it is what was asked for rather than a refusal."""
        return self.status == 200


@dataclass(frozen=True, slots=True)
class ApiClient:
    """Where the API is and whom to trust there."""

    url: str
    ca: Path | None
    insecure: bool

    def request(self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request. Raises ApiError when there is no answer in the API's form, ConfigurationError for a bad CA file."""
        try:
            with httpx.Client(base_url=self.url, verify=self._trust(), timeout=_TIMEOUT_S, trust_env=False) as client:
                response = client.request(method, path, json=body, headers=headers)
            answer = response.json()
        except httpx.InvalidURL as error:
            raise ApiError(f"{self.url}: {error}") from error
        except httpx.HTTPError as error:
            raise ApiError(f"{self.url}: {error or type(error).__name__}{self._mend(error)}") from error
        except ValueError as error:
            raise ApiError(f"{self.url}: the answer is no JSON") from error
        if not isinstance(answer, dict):
            raise ApiError(f"{self.url}: the answer is no JSON object")
        return Reply(response.status_code, answer)

    def _mend(self, error: httpx.HTTPError) -> str:
        """Return what the user may do about ``error``, to be put behind it."""
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return "; give its certificate with --ca FILE (STATE/tls/certificate.pem), or is it another gatekeeper? (--url)"
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return "; is gatekeeperd running there? (--url)"
        if isinstance(error, httpx.RemoteProtocolError) and self.url.startswith("http://"):
            return "; the API is at https:// alone"
        return ""

    def _trust(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError as error:
            raise ConfigurationError("is no certificate in PEM", path=self.ca, field="--ca") from error
        except OSError as error:
            raise ConfigurationError(error.strerror or str(error), path=self.ca, field="--ca") from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
