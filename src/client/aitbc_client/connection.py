"""Where the coordinator is, and how calls to it are made and repeated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = 30.0

_OPTIONS = (
    # Finds out that the other side is gone, also through NATs that forget idle connections.
    ("grpc.keepalive_time_ms", 25_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 64 * 2**20),
    # After a failure the next attempt is ours to time; gRPC's own back-off grows to two minutes.
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach a coordinator."""

    # HOST:PORT of its gRPC port.
    target: str = DEFAULT_TARGET
    api_key: str | None = field(default=None, repr=False)
    # Encrypts; with the system's certificate authorities unless `tls_ca` names a file of others.
    tls: bool = False
    tls_ca: Path | None = None
    # The client's own certificate and key, where the coordinator asks for one.
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key: give both or neither")

    @classmethod
    def of(cls, coordinator: str | Connection, api_key: str | None) -> Connection:
        """Returns the connection, with the key where one is given beside it."""
        if isinstance(coordinator, str):
            return cls(target=coordinator, api_key=api_key)
        return coordinator if api_key is None else replace(coordinator, api_key=api_key)

    @property
    def is_key_exposed(self) -> bool:
        """Whether the key leaves this machine unencrypted."""
        return bool(self.api_key) and not self._is_encrypted and not _is_here(self.target)

    @property
    def _is_encrypted(self) -> bool:
        return bool(self.tls or self.tls_ca or self.tls_cert)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of every call."""
        return (("x-api-key", self.api_key),) if self.api_key else ()

    def open(self) -> grpc.Channel:
        """Returns a channel for threads. Raises OSError when a TLS file cannot be read."""
        # Here, and below: who only says how to connect does not wait for gRPC to load.
        import grpc

        credentials = self._credentials()
        if credentials is None:
            return grpc.insecure_channel(self.target, options=_OPTIONS)
        return grpc.secure_channel(self.target, credentials, options=_OPTIONS)

    def open_aio(self) -> grpc.aio.Channel:
        """Returns a channel for the running event loop. Raises OSError as `open` does."""
        import grpc

        credentials = self._credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.target, options=_OPTIONS)
        return grpc.aio.secure_channel(self.target, credentials, options=_OPTIONS)

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if not self._is_encrypted:
            return None
        import grpc

        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.tls_ca),
            private_key=_read(self.tls_key),
            certificate_chain=_read(self.tls_cert),
        )


def _read(file: Path | None) -> bytes | None:
    return file.read_bytes() if file else None


def _is_here(target: str) -> bool:
    if target.startswith("unix:"):
        return True
    host = target.rpartition("/")[2].rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
