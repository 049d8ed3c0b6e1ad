"""Where a part listens: a host and a port."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

from playhead.errors import SettingError


@dataclass(frozen=True)
class Address:
    """A host and a port; an IPv6 host is written in brackets, as in "[::1]:8600".

    Attributes:
        host: an IP address without brackets, or a name.
        port: 0 lets the system choose one.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address that a text names.

        Raises:
            SettingError: it names none.
        """
        host, _, port = text.strip().rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        is_bracketed = host == f"[{bare}]"
        is_named = bool(_HOST.fullmatch(bare)) and not is_bracketed
        is_port = port.isascii() and port.isdigit() and int(port) <= _LAST_PORT
        if not is_port or not (is_named or (is_bracketed and _is_ipv6(bare))):
            raise SettingError(
                f"{text!r} is no address with a port",
                hint='Write it as "127.0.0.1:8600", "[::1]:8600" or "host.example:8600".',
            )
        return cls(bare, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_LAST_PORT = 65_535


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
