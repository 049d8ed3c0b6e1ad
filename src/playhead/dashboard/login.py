"""Who may look: browsers show a key once, and then a cookie that only says which key it was.

A cookie is `<key id>.<Unix time until which it is good>.<HMAC-SHA256 of both>`. The secret of the
HMAC is a file of the workspace, so a restart logs nobody out; a revoked key does, at once.
"""

import hashlib
import hmac
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from playhead.errors import KeyRefusedError
from playhead.keys import KeyRing

__all__ = ["COOKIE", "Login"]

COOKIE = "playhead_key"
GOOD_FOR_S = 7 * 86_400
FILE = "dashboard.secret"
_SECRET_BYTES = 32


class Login:
    """The doors of the dashboards.

    Args:
        workspace: its folder.
    """

    def __init__(self, workspace: Path) -> None:
        self.keys = KeyRing(workspace / "keys.json")
        self._secret = _secret_of(workspace / FILE)

    def enter(self, presented: str) -> str | None:
        """The cookie's value for a browser that shows a key; None if no key is needed.

        Raises:
            KeyRefusedError: it is no key that may read.
        """
        key = self.keys.check(presented.strip(), "read")
        return None if key is None else self._signed(f"{key.id}.{int(time.time()) + GOOD_FOR_S}")

    def lets_in(self, cookie: str | None) -> bool:
        """Whether whoever has this cookie may look now."""
        with suppress(KeyRefusedError):
            if self.keys.check(None, "read") is None:
                return True
        if cookie is None or cookie.count(".") != 2:
            return False
        told, _, _ = cookie.rpartition(".")
        key_id, _, until = told.partition(".")
        if not hmac.compare_digest(self._signed(told).encode(), cookie.encode()):
            return False
        return int(until) > time.time() and self.keys.allows(key_id, "read")

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a key."""
        with suppress(KeyRefusedError):
            return self.keys.check(None, "read") is None
        return False

    def _signed(self, told: str) -> str:
        signature = hmac.new(self._secret, told.encode(), hashlib.sha256).hexdigest()
        return f"{told}.{signature}"


def _secret_of(path: Path) -> bytes:
    """The secret of a workspace, made on first use; one of this process if it cannot be kept."""
    with suppress(OSError):
        known = path.read_bytes()
        if len(known) == _SECRET_BYTES:
            return known
    made = secrets.token_bytes(_SECRET_BYTES)
    with suppress(OSError):
        new = path.with_name(f".{path.name}.{os.getpid()}")
        new.touch(0o600)
        new.write_bytes(made)
        new.replace(path)
    return made
