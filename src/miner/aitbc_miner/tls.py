"""TLS towards the coordinator, and what went wrong when it does not come about."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from aitbc_miner.errors import Misconfigured

_PROBE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Whom to trust, and what to show. All in PEM; there is no way to trust everybody."""

    # Who signs the coordinator's certificate; by default whom gRPC trusts.
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise Misconfigured("--tls-cert and --tls-key: give both, or neither")
        self.credentials()

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns the credentials of a channel, from the files as they are now.

        Raises Misconfigured when one cannot be read.
        """
        files = (self.ca, self.key, self.cert)
        ca, key, cert = (None if file is None else _bytes(file) for file in files)
        return grpc.ssl_channel_credentials(ca, key, cert)


async def explain(coordinator: str, tls: Tls | None, details: str) -> str | None:
    """Says what a connection that failed before the first message needs; None when unknown."""
    if tls is None:
        if "Socket closed" in details and await _speaks_tls(coordinator):
            return "the coordinator speaks TLS on this port: give --tls, and --tls-ca for its CA"
        return None
    if "WRONG_VERSION_NUMBER" in details:
        return "the coordinator speaks plain text on this port: leave the options --tls... out"
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return "the coordinator's certificate is not signed by one that is trusted: see --tls-ca"
    if "Hostname Verification Check failed" in details:
        host = coordinator.rpartition(":")[0]
        return f"the coordinator's certificate is not for {host}: connect to a name that it is for"
    if "Socket closed" in details:
        shown = "another client certificate" if tls.cert else "a client certificate"
        return f"the coordinator may want {shown}: see --tls-cert and --tls-key"
    return None


async def _speaks_tls(coordinator: str) -> bool:
    host, _, port = coordinator.rpartition(":")
    try:
        async with asyncio.timeout(_PROBE_S):
            _, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=ssl.create_default_context()
            )
    except ssl.SSLCertVerificationError:
        # It showed a certificate; whether that is to be trusted is not the question here.
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{file}: cannot be read: {error.strerror}") from error
