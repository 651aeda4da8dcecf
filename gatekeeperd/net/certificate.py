"""The self-signed certificate of the HTTPS API.

What lives here: making one where there is none, and anew when it is about to expire or does not name the addresses that
the daemon listens on. What never does: trust; clients pin the certificate or an operator brings a real one.

It runs as a process of its own (``python -m gatekeeperd.net.certificate``), because importing ``cryptography`` costs 9 MB
that a long-running daemon would never give back.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatekeeperd.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography import x509

#: Browsers refuse more (CA/Browser Forum Baseline Requirements, section 6.3.2).
LIFETIME: Final = timedelta(days=398)
RENEW_BEFORE: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files of a certificate (0644) and its private key (0600)."""

    certificate: Path
    private_key: Path


def ensure_self_signed(directory: Path, names: tuple[str, ...]) -> CertificateFiles:
    """Make sure that ``directory`` holds a valid pair for ``names`` (addresses and host names), and return it.

    Raises :class:`ConfigurationError` when it can't be made. Blocks for half a second.
    """
    files = CertificateFiles(directory / "certificate.pem", directory / "private_key.pem")
    made = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", __name__, str(directory), *names], capture_output=True, text=True, check=False, timeout=60
    )
    if made.returncode != 0:
        reason = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ConfigurationError(f"can't make a certificate: {reason}", path=files.certificate)
    return files


def server_context(files: CertificateFiles) -> ssl.SSLContext:
    """TLS 1.2 or later with this certificate. Raises :class:`ConfigurationError`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.private_key)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"can't be used for TLS: {error}", path=files.certificate, field="http.certificate") from error
    return context


def local_names(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """All that a client on this network may call a server bound to ``hosts``."""
    concrete = tuple(host for host in hosts if not ipaddress.ip_address(host).is_unspecified)
    return tuple(dict.fromkeys((*concrete, "127.0.0.1", "::1", "localhost", socket.gethostname())))


def _main() -> int:
    """Create or renew the pair named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="+")
    arguments = parser.parse_args()
    arguments.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    certificate, key = arguments.directory / "certificate.pem", arguments.directory / "private_key.pem"
    if not (key.exists() and _serves(certificate, set(arguments.names))):
        _make(certificate, key, arguments.names)
    return 0


def _serves(certificate: Path, names: set[str]) -> bool:
    from cryptography import x509  # noqa: PLC0415 - see the module docstring

    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        named = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    held = {str(address) for address in named.get_values_for_type(x509.IPAddress)} | set(named.get_values_for_type(x509.DNSName))
    return names <= held and loaded.not_valid_after_utc - RENEW_BEFORE > datetime.now(UTC)


def _make(certificate: Path, key: Path, names: list[str]) -> None:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Guardian Council gatekeeper")])
    # A quarter of an hour back: clients' clocks differ.
    begins = datetime.now(UTC) - timedelta(minutes=15)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        # Not an authority: who trusts it trusts this one server, even if its key leaks.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    encoded_key = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # Written aside first: a crash must not leave half a file that the next start takes for a whole one.
    _replace(key, encoded_key, 0o600)
    _replace(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _replace(path: Path, octets: bytes, mode: int) -> None:
    aside = path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


if __name__ == "__main__":
    sys.exit(_main())
