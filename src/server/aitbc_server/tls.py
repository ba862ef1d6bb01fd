"""TLS of the ports that are listened on, and towards a coordinator elsewhere.

The files are looked at whenever somebody connects, and read again when they changed: a renewed
certificate needs no restart. A change that makes no sense, such as a new certificate beside the old
key, is logged, and what was there before stays until the files are right.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import grpc
import structlog

_log = structlog.get_logger(__name__)


class TlsError(OSError):
    """The files are not what TLS needs. `str(error)` names the file."""


class _Read(NamedTuple):
    """What the files held when they were read."""

    context: ssl.SSLContext
    key: bytes
    cert: bytes
    client_ca: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where a server's certificate is, in PEM."""

    # The server's certificate, and those that lead from it to its root.
    cert: Path
    key: Path
    # Who signs the certificates that clients must show; without it, they need none.
    client_ca: Path | None = None

    @classmethod
    def of(cls, cert: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
        """Returns the files, or None for plain text. Raises ValueError when one is missing."""
        if cert is not None and key is not None:
            return cls(cert=cert, key=key, client_ca=client_ca)
        if cert is not None or key is not None or client_ca is not None:
            raise ValueError("TLS needs both the certificate and its key: --tls-cert and --tls-key")
        return None

    def read(self) -> _Read:
        """Reads and checks the files. Raises TlsError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        cert, key = _bytes(self.cert), _bytes(self.key)
        try:
            # An encrypted key must not ask for its password at the terminal.
            context.load_cert_chain(self.cert, self.key, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(
                f"{self.cert} and {self.key} are not a certificate and its unencrypted key in PEM: "
                f"{error}"
            ) from None
        client_ca = None
        if self.client_ca is not None:
            client_ca = _bytes(self.client_ca)
            try:
                context.load_verify_locations(self.client_ca)
            except ssl.SSLError as error:
                raise TlsError(f"{self.client_ca} holds no certificate in PEM: {error}") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return _Read(context, key, cert, client_ca)

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Returns what differs when a file has changed. Raises OSError."""
        files = (self.cert, self.key, *([self.client_ca] if self.client_ca else []))
        stats = (file.stat() for file in files)
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in stats)


class _Watch:
    """Reads the files again when they have changed."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = files.stamp()
        self.latest = files.read()

    def changed(self) -> _Read | None:
        """Returns what the files hold when it is new and makes sense."""
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            self.latest = self._files.read()
        except OSError as error:
            _log.error("tls.reload_failed", error=str(error))
            return None
        _log.info("tls.reloaded", cert=str(self._files.cert))
        return self.latest


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Returns the context of an HTTPS server. Raises OSError, TlsError among them."""
    watch = _Watch(files)

    def before_handshake(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        del name
        watch.changed()
        connection.context = watch.latest.context

    context = watch.latest.context
    context.sni_callback = before_handshake
    return context


def grpc_server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Returns the credentials of a gRPC server. Raises OSError, TlsError among them."""
    watch = _Watch(files)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        # Called at each handshake, in a thread of gRPC's.
        changed = watch.changed()
        return None if changed is None else _configuration(changed)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(watch.latest),
        # None says that nothing changed; the stubs forget it.
        cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch),
        require_client_authentication=files.client_ca is not None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTls:
    """How to trust a coordinator elsewhere, and what to show it."""

    # Who signs its certificate; by default whom gRPC trusts.
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @classmethod
    def of(
        cls, ca: Path | None, cert: Path | None, key: Path | None, *, is_wanted: bool
    ) -> TargetTls | None:
        """Returns how, or None for plain text. Raises ValueError when a file is missing."""
        if (cert is None) != (key is None):
            raise ValueError("--target-cert and --target-key are given together")
        if is_wanted or ca is not None or cert is not None:
            return cls(ca=ca, cert=cert, key=key)
        return None

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns the credentials of a channel. Raises TlsError."""
        ca, cert, key = (
            None if one is None else _bytes(one) for one in (self.ca, self.cert, self.key)
        )
        return grpc.ssl_channel_credentials(ca, key, cert)


def _configuration(read: _Read) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(read.key, read.cert)], read.client_ca)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TlsError(error.errno, f"cannot read it: {error.strerror}", str(file)) from None
