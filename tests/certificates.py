"""Certificates for tests, in files as an operator would have them."""

from __future__ import annotations

from pathlib import Path

import trustme


class Authority:
    """A private CA whose certificate is in a file."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._ca = trustme.CA()
        self.cert = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.cert)

    def issue(self, name: str, *identities: str) -> tuple[Path, Path]:
        """Writes NAME.pem and NAME-key.pem, over what is there; returns the two."""
        issued = self._ca.issue_cert(*(identities or ("127.0.0.1", "localhost")))
        cert, key = self._directory / f"{name}.pem", self._directory / f"{name}-key.pem"
        cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return cert, key
