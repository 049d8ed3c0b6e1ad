"""Which web pages may send events: cross-origin resource sharing (the Fetch standard)."""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from playhead.errors import RequestRefusedError
from playhead.gateway.answers import Answer, Headers, Request

_ALLOWED_HEADERS = (
    "content-type, content-encoding, authorization, x-playhead-key, playhead-sent-at, x-request-id"
)
_MAX_AGE_S = 7200


class Origins:
    """The list of origins whose pages may send; "*": any.

    Browsers name the page's origin with every POST. A page that is not listed is refused, not
    only kept from reading the answer: otherwise any page could write to the gateways of its
    readers' own machines. Whoever is no browser names no origin, and needs none.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._is_any = "*" in origins
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def check(self, request: Request, *, is_open: bool) -> None:
        """Refuse a page that may not send.

        Args:
            is_open: no keys are needed; then a page of the gateway's own name counts as its own
                only on this machine, since names may be made to point anywhere.

        Raises:
            RequestRefusedError: 403.
        """
        origin = request.header(b"origin").lower()
        if not origin or self._allows(origin):
            return
        own = urlsplit(f"//{request.header(b'host').lower()}")
        try:
            is_own = urlsplit(origin).netloc == own.netloc
            if is_own and (not is_open or _is_loopback(own.hostname or "")):
                return
        except ValueError:
            pass
        raise RequestRefusedError(
            f"pages of {origin[:200]} may not send events here",
            status=403,
            hint="gateway.cors_origins lists those that may.",
        )

    def headers(self, request: Request) -> Headers:
        """What lets a page that may send read the answer."""
        origin = request.header(b"origin")
        if not origin or not self._allows(origin.lower()):
            return ()
        return (
            (b"access-control-allow-origin", b"*" if self._is_any else origin.encode("latin-1")),
            (b"access-control-expose-headers", b"retry-after, x-request-id"),
            (b"vary", b"origin"),
        )

    def preflight(self, request: Request) -> Answer:
        """The answer to a browser that asks before it sends.

        Raises:
            RequestRefusedError: 403: the page may not.
        """
        self.check(request, is_open=True)
        return Answer(
            204,
            headers=(
                (b"access-control-allow-methods", b"POST"),
                (b"access-control-allow-headers", _ALLOWED_HEADERS.encode()),
                (b"access-control-max-age", str(_MAX_AGE_S).encode()),
                (b"allow", b"POST, OPTIONS"),
            ),
        )

    def _allows(self, origin: str) -> bool:
        return self._is_any or origin in self._origins


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    return ipaddress.ip_address(host).is_loopback
