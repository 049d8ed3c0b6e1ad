"""API keys: who may write, read and administer. Only hashes of their secrets are kept.

A key is `ph_<id>_<secret>`: 8 hexadecimal digits by which it is found, and 43 characters of
base64url, 32 random bytes. With that many, one SHA-256 is enough: nobody can try them all.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from playhead.errors import KeyRefusedError, KeyRingError, WorkspaceBusyError, WorkspaceError
from playhead.lock import RoleLock

__all__ = ["FILE", "SCOPES", "Key", "KeyRing", "Scope"]

logger = logging.getLogger(__name__)

FILE = "keys.json"
"""The file's name in a workspace."""

Scope = Literal["write", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_VERSION = 1
_LOOK_EVERY_S = 1.0
_LOCK_WAIT_S = 10.0
_LOCK_POLL_S = 0.02
_FORM = re.compile(r"ph_([0-9a-f]{8})_([A-Za-z0-9_-]{43})", re.ASCII)
_NAME_LETTERS = 100
_MOST_EVENTS_PER_SECOND = 10**9
_NOBODY = hashlib.sha256(b"").hexdigest()
_HINT = 'Send it as "Authorization: Bearer <key>"; `playhead keys create` makes one.'


@dataclass(frozen=True)
class Key:
    """One key, as it is kept.

    Attributes:
        id: 8 hexadecimal digits, part of the key itself; may be shown and logged.
        name: what it is for, in its owner's words.
        scopes: what it may do; admin includes the others.
        sha256: of the secret, in hexadecimal.
        created: UTC, without a zone attached.
        revoked: when it was revoked; None while it is active.
        events_per_second: the quota of events that it may send; None: no bound.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    sha256: str
    created: datetime
    revoked: datetime | None = None
    events_per_second: int | None = None

    @property
    def is_active(self) -> bool:
        return self.revoked is None

    def allows(self, scope: Scope) -> bool:
        """Whether it is active and has the scope, or admin, which includes every scope."""
        return self.is_active and (scope in self.scopes or "admin" in self.scopes)


class _StoredKey(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A key in the file."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
    name: str
    scopes: list[Scope]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    created: datetime
    revoked: datetime | None = None
    events_per_second: Annotated[int, msgspec.Meta(ge=1)] | None = None


class _StoredRing(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    version: int
    keys: list[_StoredKey]


class KeyRing:
    """The keys of a workspace; may be used from several threads and processes at once.

    A change by another process is seen within a second. A file that was there and is damaged
    or gone refuses every request until it is whole again: it never opens the doors.

    Args:
        path: the file, `keys.json` in the workspace; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._keys: Mapping[str, Key] = {}
        self._problem: KeyRingError | None = None
        self._seen: tuple[int, int, int] | None = None
        self._looked_at = float("-inf")

    # -- for whoever manages keys ----------------------------------------------------------

    def create(
        self, name: str, scopes: Collection[Scope], *, events_per_second: int | None = None
    ) -> tuple[Key, str]:
        """Make a key; what is returned beside it is the key to give away, which nobody can
        find out later.

        Raises:
            KeyRingError: the name or a scope cannot be used, or the file is damaged or cannot
                be written.
        """
        _check_request(name, scopes, events_per_second)
        secret = secrets.token_urlsafe(32)
        with self._changing() as keys:
            key_id = secrets.token_hex(4)
            while key_id in keys:
                key_id = secrets.token_hex(4)
            key = keys[key_id] = Key(
                id=key_id,
                name=name,
                scopes=frozenset(scopes),
                sha256=_hash(secret),
                created=_now(),
                events_per_second=events_per_second,
            )
        return key, f"ph_{key_id}_{secret}"

    def keys(self) -> list[Key]:
        """All keys, the revoked ones too, in the order in which they were made.

        Raises:
            KeyRingError: the file is damaged.
        """
        return list(self._current(at_once=True).values())

    def revoke(self, key_id: str) -> Key:
        """Revoke a key for good; one that is revoked already stays as it is.

        Args:
            key_id: the key's id, or the name of an active key that no other active key has.

        Raises:
            KeyRingError: there is no such key, or the name means several, or the file is
                damaged or cannot be written.
        """
        with self._changing() as keys:
            key = _find(keys, key_id)
            if key.is_active:
                key = keys[key.id] = replace(key, revoked=_now())
        return key

    # -- for servers -----------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether no key was ever made, so that none is needed.

        Revoking the last key closes the doors rather than opening them.

        Raises:
            KeyRingError: the file is damaged.
        """
        return not self._current()

    def has(self, scope: Scope) -> bool:
        """Whether an active key has the scope.

        Raises:
            KeyRingError: the file is damaged.
        """
        return any(key.allows(scope) for key in self._current().values())

    def check(self, presented: str | None, scope: Scope) -> Key | None:
        """The key behind a request; None if none is needed because none was ever made.

        Args:
            presented: the key as it came with the request, without "Bearer".

        Raises:
            KeyRefusedError: with status 401 (missing, unknown or revoked), 403 (lacks the
                scope) or 503 (the file is damaged).
        """
        try:
            keys = self._current()
        except KeyRingError as error:
            raise KeyRefusedError("keys cannot be checked at the moment", status=503) from error
        if not keys:
            return None
        if not presented:
            raise KeyRefusedError(f"a key with scope {scope} is needed", status=401, hint=_HINT)
        key = _match(keys, presented)
        if key is None or not key.is_active:
            raise KeyRefusedError("the key is unknown or was revoked", status=401, hint=_HINT)
        if not key.allows(scope):
            raise KeyRefusedError(f"key {key.id} has no scope {scope}", status=403)
        return key

    def allows(self, key_id: str, scope: Scope) -> bool:
        """Whether the key of this id may do something now; not if the file is damaged."""
        with suppress(KeyRingError):
            key = self._current().get(key_id)
            return key is not None and key.allows(scope)
        return False

    # -- the file --------------------------------------------------------------------------

    def _current(self, *, at_once: bool = False) -> Mapping[str, Key]:
        """The keys as of at most a second ago."""
        if at_once or time.monotonic() - self._looked_at >= _LOOK_EVERY_S:
            with self._lock:
                self._look()
                # Only now: until the first look is over, nobody may take the keys as known.
                self._looked_at = time.monotonic()
        if self._problem is not None:
            raise KeyRingError(self._problem.message, hint=self._problem.hint)
        return self._keys

    def _look(self) -> None:
        """Read the file again if it is another one than last time."""
        try:
            found = self._path.stat()
            signature = (found.st_mtime_ns, found.st_size, found.st_ino)
            if signature != self._seen or self._problem is not None:
                self._keys = _read(self._path)
                self._seen, self._problem = signature, None
        except FileNotFoundError:
            # A file that was never there means that no keys were ever made.
            if self._seen is not None:
                self._note(_damaged(self._path, "it was there and is gone"))
        except OSError as error:
            self._note(_damaged(self._path, error.strerror or str(error)))
        except KeyRingError as error:
            self._note(error)

    def _note(self, problem: KeyRingError) -> None:
        if self._problem is None or self._problem.message != problem.message:
            logger.error("%s: every request is refused", problem.message)
        self._problem = problem

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Key]]:
        """The keys to change, written at the end of the block, by one process at a time."""
        lock = RoleLock(self._path.with_suffix(".lock"), "change of keys")
        _acquire(lock, self._path)
        try:
            keys = dict(self._current(at_once=True))
            yield keys
            _write(self._path, keys)
            self._current(at_once=True)
        except OSError as error:
            raise KeyRingError(f"{self._path}: {error.strerror or error}") from error
        finally:
            lock.release()


def _check_request(name: str, scopes: Collection[str], events_per_second: int | None) -> None:
    if not 1 <= len(name) <= _NAME_LETTERS or not name.isprintable():
        raise KeyRingError(f"{name!r} is no name of a key", hint="One line of 1 to 100 characters.")
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise KeyRingError(
            f"no scope {', '.join(unknown)}" if unknown else f"key {name!r} needs a scope",
            hint=f"There are {', '.join(SCOPES)}.",
        )
    if events_per_second is not None and not 1 <= events_per_second <= _MOST_EVENTS_PER_SECOND:
        raise KeyRingError(
            f"a quota of {events_per_second} events a second is not in "
            f"1 to {_MOST_EVENTS_PER_SECOND:,}"
        )


def _find(keys: Mapping[str, Key], wanted: str) -> Key:
    if wanted in keys:
        return keys[wanted]
    named = [key for key in keys.values() if key.name == wanted and key.is_active]
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(key.id for key in named)
        raise KeyRingError(
            f"{len(named)} active keys are named {wanted!r}: {ids}", hint="Say which."
        )
    raise KeyRingError(
        f"no key has the id {wanted!r}, and no active one that name",
        hint="`playhead keys list` shows them.",
    )


def _match(keys: Mapping[str, Key], presented: str) -> Key | None:
    """The key whose secret was presented; as slow for an unknown id as for a wrong secret."""
    form = _FORM.fullmatch(presented)
    key_id, secret = form.groups() if form is not None else ("", "")
    key = keys.get(key_id)
    is_same = hmac.compare_digest(_hash(secret), _NOBODY if key is None else key.sha256)
    return key if is_same and form is not None else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def _acquire(lock: RoleLock, path: Path) -> None:
    """Wait for another process's change, for some seconds at most."""
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            lock.acquire()
        except WorkspaceBusyError as error:
            if time.monotonic() >= until:
                raise KeyRingError(f"{path} is being changed by another process") from error
            time.sleep(_LOCK_POLL_S)
        except WorkspaceError as error:
            raise KeyRingError(error.message) from error
        else:
            return


def _read(path: Path) -> dict[str, Key]:
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_StoredRing)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error
    if stored.version != _VERSION:
        raise _damaged(path, f"it has version {stored.version}, not {_VERSION}")
    keys = {one.id: _key(one) for one in stored.keys}
    if len(keys) < len(stored.keys):
        raise _damaged(path, "two keys have the same id")
    return keys


def _key(stored: _StoredKey) -> Key:
    fields: dict[str, Any] = msgspec.structs.asdict(stored)
    return Key(**{**fields, "scopes": frozenset(stored.scopes)})


def _write(path: Path, keys: Mapping[str, Key]) -> None:
    """Replace the file in one step, readable by its owner only."""
    stored = _StoredRing(
        _VERSION,
        [_StoredKey(**{**vars(key), "scopes": sorted(key.scopes)}) for key in keys.values()],
    )
    text = msgspec.json.format(msgspec.json.encode(stored), indent=2)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(file, "wb") as out:  # noqa: PTH123 - of a descriptor
            os.fchmod(file, 0o600)
            out.write(text + b"\n")
            out.flush()
            os.fsync(file)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _damaged(path: Path, what: str) -> KeyRingError:
    return KeyRingError(
        f"{path}: the file of keys is damaged ({what})",
        hint="Bring it back from a copy, or delete it and make new keys; until then a running "
        "server refuses every request.",
    )
