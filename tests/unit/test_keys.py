"""Keys: what is kept of them, who gets in, what a damaged file does, and the commands."""

import json
import multiprocessing
import stat
import sys
import threading
from pathlib import Path

import pytest

from playhead import keys as room
from playhead.errors import KeyRefusedError, KeyRingError
from playhead.keys import Key, KeyRing, Scope

CLI_TESTS = Path(__file__).parents[1] / "integration" / "cli"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers look at the file on every request."""
    monkeypatch.setattr(room, "_LOOK_EVERY_S", 0.0)


def _status(ring: KeyRing, presented: str | None, scope: Scope = "write") -> int:
    try:
        ring.check(presented, scope)
    except KeyRefusedError as error:
        return error.status
    return 200


def test_without_a_file_everything_is_open(path: Path) -> None:
    ring = KeyRing(path)
    assert ring.is_open
    assert ring.keys() == []
    assert ring.check(None, "admin") is None
    assert ring.check("anything", "write") is None
    assert not ring.has("write")


def test_a_key_opens_what_its_scopes_say(path: Path) -> None:
    ring = KeyRing(path)
    key, secret = ring.create("web", ["write"], events_per_second=500)
    assert ring.check(secret, "write") == key
    assert key.events_per_second == 500
    assert _status(ring, secret, "read") == 403
    assert not ring.is_open
    assert ring.has("write")
    assert not ring.has("read")


def test_admin_includes_every_scope(path: Path) -> None:
    ring = KeyRing(path)
    _, secret = ring.create("root", ["admin"])
    assert [_status(ring, secret, scope) for scope in room.SCOPES] == [200, 200, 200]
    assert ring.has("read")


@pytest.mark.parametrize(
    "presented",
    [
        None,
        "",
        "ph_",
        "Bearer x",
        "ph_00000000_" + "A" * 43,
        "ph_00000000_" + "é" * 43,
        "\ud800",
        "x" * 100_000,
        "ph_00000000_",
    ],
)
def test_a_wrong_key_is_refused(path: Path, presented: str | None) -> None:
    ring = KeyRing(path)
    ring.create("web", ["write"])
    assert _status(ring, presented) == 401


def test_a_key_with_another_secret_or_more_text_is_refused(path: Path) -> None:
    ring = KeyRing(path)
    _, secret = ring.create("web", ["write"])
    _, other = ring.create("tv", ["write"])
    mixed = secret[:12] + other[12:]
    for wrong in (mixed, secret + "\n", " " + secret, secret[:-1], secret.upper()):
        assert _status(ring, wrong) == 401


def test_neither_file_nor_error_holds_the_secret(path: Path) -> None:
    ring = KeyRing(path)
    key, secret = ring.create("web", ["write"])
    assert secret.rpartition(f"{key.id}_")[2] not in path.read_text(encoding="utf-8")
    with pytest.raises(KeyRefusedError) as refused:
        ring.check(secret, "admin")
    assert secret not in str(refused.value)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_open_file_mode_is_closed_by_the_next_change(path: Path) -> None:
    ring = KeyRing(path)
    ring.create("web", ["write"])
    path.chmod(0o644)
    ring.create("tv", ["write"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.usefixtures("at_once")
def test_a_running_server_sees_changes(path: Path) -> None:
    server, manager = KeyRing(path), KeyRing(path)
    assert server.is_open
    key, secret = manager.create("web", ["write"])
    assert server.check(secret, "write") == key
    manager.revoke(key.id)
    assert _status(server, secret) == 401
    # The doors stay shut although no active key is left.
    assert not server.is_open
    assert _status(server, None) == 401


def test_the_file_is_looked_at_once_a_second(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(room.time, "monotonic", lambda: now)
    server = KeyRing(path)
    key, secret = KeyRing(path).create("web", ["write"])
    assert server.check(secret, "write") == key
    KeyRing(path).revoke(key.id)
    now += 0.9
    assert _status(server, secret) == 200
    now += 0.1
    assert _status(server, secret) == 401


def test_nobody_gets_in_while_the_file_is_read_for_the_first_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    KeyRing(path).create("web", ["write"])
    server, read = KeyRing(path), room._read
    begun, may_end = threading.Event(), threading.Event()

    def slowly(path: Path) -> dict[str, Key]:
        begun.set()
        assert may_end.wait(10)
        return read(path)

    monkeypatch.setattr(room, "_read", slowly)
    told: list[int] = []
    threads = [threading.Thread(target=lambda: told.append(_status(server, None)))]
    threads[0].start()
    assert begun.wait(10)
    threads.append(threading.Thread(target=lambda: told.append(_status(server, None))))
    threads[1].start()
    threads[1].join(0.1)
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert told == [401, 401]


def test_revoking_by_name_and_twice(path: Path) -> None:
    ring = KeyRing(path)
    first, _ = ring.create("web", ["write"])
    revoked = ring.revoke("web")
    assert revoked.id == first.id
    assert ring.revoke(first.id) == revoked
    ring.create("tv", ["write"])
    ring.create("tv", ["read"])
    with pytest.raises(KeyRingError, match="2 active keys are named 'tv'"):
        ring.revoke("tv")
    with pytest.raises(KeyRingError, match="no key has the id 'radio'"):
        ring.revoke("radio")


@pytest.mark.parametrize(
    ("name", "scopes", "quota", "told"),
    [
        ("", ["write"], None, "no name"),
        ("a\nb", ["write"], None, "no name"),
        ("a" * 101, ["write"], None, "no name"),
        ("a\ud800", ["write"], None, "no name"),
        ("a\x9b31m", ["write"], None, "no name"),
        ("web", [], None, "needs a scope"),
        ("web", ["root"], None, "no scope root"),
        ("web", ["write"], 0, "not in 1 to 1,000,000,000"),
        ("web", ["write"], 10**30, "not in 1 to 1,000,000,000"),
    ],
)
def test_what_cannot_be_made(
    path: Path, name: str, scopes: list[Scope], quota: int | None, told: str
) -> None:
    with pytest.raises(KeyRingError, match=told):
        KeyRing(path).create(name, scopes, events_per_second=quota)
    assert not path.exists()


# -- damage ------------------------------------------------------------------------------

DAMAGE = {
    "empty": b"",
    "cut": b'{"version": 1, "keys": [',
    "no ring": b"[]",
    "no keys": b'{"version": 1}',
    "newer": b'{"version": 2, "keys": []}',
    "bytes": b"\xff\xfe\x00",
    "bad hash": b'{"version":1,"keys":[{"id":"00000000","name":"a","scopes":["write"],'
    b'"sha256":"","created":"2026-01-01T00:00:00"}]}',
    "no quota": b'{"version":1,"keys":[{"id":"00000000","name":"a","scopes":["write"],"sha256":"'
    + b"0" * 64
    + b'","created":"2026-01-01T00:00:00","events_per_second":0}]}',
}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_refuses_everything_and_is_named(path: Path, damage: str) -> None:
    server = KeyRing(path)
    _, secret = server.create("web", ["admin"])
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage])
    for ring in (server, KeyRing(path)):
        assert _status(ring, None) == 503
        assert _status(ring, secret) == 503
        for use in (ring.keys, lambda r=ring: r.is_open, lambda r=ring: r.create("x", ["read"])):
            with pytest.raises(KeyRingError, match=r"keys\.json: the file of keys is damaged"):
                use()
    assert path.read_bytes() == DAMAGE[damage]
    path.write_bytes(whole)
    assert _status(server, secret) == 200


@pytest.mark.usefixtures("at_once")
def test_a_file_that_vanishes_does_not_open_the_doors(path: Path) -> None:
    server = KeyRing(path)
    _, secret = server.create("web", ["write"])
    path.unlink()
    assert _status(server, None) == 503
    assert _status(server, secret) == 503
    _, newer = KeyRing(path).create("tv", ["write"])
    assert _status(server, newer) == 200


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeyRingError, match="file"):
        KeyRing(tmp_path / "file" / "keys.json").create("web", ["write"])


# -- several at once ---------------------------------------------------------------------


def _create_many(path: Path, number: int) -> None:
    for index in range(10):
        KeyRing(path).create(f"{number}-{index}", ["write"])


def test_processes_that_create_at_once_lose_nothing(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=_create_many, args=(path, n)) for n in range(3)]
    for one in started:
        one.start()
    for one in started:
        one.join(60)
        assert one.exitcode == 0
    made = KeyRing(path).keys()
    names = {key.name for key in made}
    assert names == {f"{n}-{index}" for n in range(3) for index in range(10)}
    assert {file.name for file in path.parent.iterdir()} == {"keys.json", "keys.lock"}


def test_a_change_waits_for_another_only_so_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_LOCK_WAIT_S", 0.1)
    with (
        room.RoleLock(path.with_suffix(".lock"), "change of keys"),
        pytest.raises(KeyRingError, match="being changed by another process"),
    ):
        KeyRing(path).create("web", ["write"])


# -- commands ----------------------------------------------------------------------------


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CLI_TESTS))
    run = __import__("cli_runner").run
    sys.modules.pop("cli_runner")
    folder = tmp_path / "workspace"
    assert run("-w", folder, "keys", "list").status == 1
    assert run("-w", folder, "init").status == 0
    assert "there are no keys" in run("-w", folder, "keys", "list").err
    quota = ("--scope", "write", "--scope", "read", "--events-per-second", "50")
    made = run("-w", folder, "keys", "create", "web", *quota)
    ring = KeyRing(folder / "keys.json")
    key = ring.check(made.text.strip(), "write")
    assert isinstance(key, Key)
    assert key.scopes == {"write", "read"}
    assert made.text.strip() not in made.err
    listed = json.loads(run("-w", folder, "keys", "list", "--json").text)
    assert [one["name"] for one in listed] == ["web"]
    assert listed[0]["active"] is True
    assert "sha256" not in listed[0]
    assert "write" in run("-w", folder, "keys", "list").text
    assert run("-w", folder, "keys", "revoke", key.id).status == 0
    assert not ring.keys()[0].is_active
    assert run("-w", folder, "keys", "revoke", "nobody").status == 1
    assert run("-w", folder, "keys", "create", "x", "--scope", "root").status == 2
    assert run("-w", folder, "keys", "create", "[/x]", "--scope", "read").status == 0
    assert "[/x]" in run("-w", folder, "keys", "list").text
