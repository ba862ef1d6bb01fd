"""Where a server listens, or another one does."""

from __future__ import annotations

import ipaddress


class Address(str):
    """`HOST:PORT`; an IPv6 host stands in brackets. Port 0 lets the system choose."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """Returns the address. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r} is not HOST:PORT")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError(f"{text!r}: an IPv6 host stands in brackets, as in [::1]:8080")
        return cls(text)

    @property
    def host(self) -> str:
        """The host, without brackets."""
        return self.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
