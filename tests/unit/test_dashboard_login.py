"""Who may look at the dashboards, from where, and with which cookie."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from playhead.dashboard.app import _own
from playhead.dashboard.doors import Doors
from playhead.dashboard.login import COOKIE, FILE, Login
from playhead.errors import KeyRefusedError
from playhead.keys import KeyRing


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    """The application behind the doors: it says "inside", over HTTP and over a socket."""
    if scope["type"] == "http":
        await PlainTextResponse("inside")(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": "inside"})


def get(workspace: Path, path: str = "/live", **headers: str) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(Doors(inside, Login(workspace)))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(asked())


def key(workspace: Path, *scopes: str) -> tuple[str, str]:
    made, secret = KeyRing(workspace / "keys.json").create("test", scopes or ["read"])  # type: ignore[arg-type]
    return made.id, secret


# -- without keys --------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:8602", "localhost:8602", "[::1]:8602", "10.1.2.3"])
def test_without_keys_whoever_reaches_the_machine_may_look(tmp_path: Path, host: str) -> None:
    answer = get(tmp_path, Host=host)
    assert (answer.status_code, answer.text) == (200, "inside")
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_without_keys_a_name_of_others_is_refused(tmp_path: Path, host: str) -> None:
    answer = get(tmp_path, Host=host)
    assert answer.status_code == 403
    assert "playhead keys create" in answer.text


def test_a_page_of_another_origin_is_refused(tmp_path: Path) -> None:
    host = "127.0.0.1:8602"
    assert get(tmp_path, Host=host, Origin="http://evil.example").status_code == 403
    assert get(tmp_path, Host=host, Origin=f"http://{host}").status_code == 200
    assert get(tmp_path, Host=host, Origin="null").status_code == 403


# -- with keys -----------------------------------------------------------------------------


def test_a_cookie_says_which_key_it_was(tmp_path: Path) -> None:
    key_id, secret = key(tmp_path)
    login = Login(tmp_path)
    cookie = login.enter(f" {secret}\n")
    assert cookie is not None
    assert secret not in cookie
    assert login.lets_in(cookie)
    assert Login(tmp_path).lets_in(cookie), "a restart logs nobody out"
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    told, until, signature = cookie.split(".")
    assert told == key_id
    for wrong in (
        None, "", "a.b.c", f"{told}.{until}.{'0' * len(signature)}",
        f"{told}.{int(until) + 1}.{signature}", f"ffffffff.{until}.{signature}", "é.1.é",
    ):  # fmt: skip
        assert not login.lets_in(wrong)
    KeyRing(tmp_path / "keys.json").revoke(key_id)
    time.sleep(1.1)  # keys are looked at once a second
    assert not login.lets_in(cookie)


def test_a_cookie_is_good_for_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = key(tmp_path)
    login = Login(tmp_path)
    cookie = login.enter(secret)
    now = time.time()
    monkeypatch.setattr("playhead.dashboard.login.time.time", lambda: now + 6 * 86_400)
    assert login.lets_in(cookie)
    monkeypatch.setattr("playhead.dashboard.login.time.time", lambda: now + 8 * 86_400)
    assert not login.lets_in(cookie)


def test_a_key_without_the_scope_gets_no_cookie(tmp_path: Path) -> None:
    _, secret = key(tmp_path, "write")
    with pytest.raises(KeyRefusedError, match="no scope read"):
        Login(tmp_path).enter(secret)


def test_a_damaged_key_file_lets_nobody_in(tmp_path: Path) -> None:
    _, secret = key(tmp_path)
    cookie = Login(tmp_path).enter(secret)
    (tmp_path / "keys.json").write_text("{", encoding="utf-8")
    assert not Login(tmp_path).lets_in(cookie)
    assert not Login(tmp_path).lets_in(None)


def test_without_a_cookie_pages_lead_to_the_login(tmp_path: Path) -> None:
    _, secret = key(tmp_path)
    answer = get(tmp_path, "/live?last=6h&country=USA", Host="films.example")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/live%3Flast%3D6h%26country%3DUSA"
    assert get(tmp_path, "/login", Host="films.example").status_code == 200
    cookie = Login(tmp_path).enter(secret)
    assert get(tmp_path, Host="films.example", Cookie=f"a=b; {COOKIE}={cookie}").text == "inside"
    assert get(tmp_path, Host="films.example", Cookie=f"{COOKIE}=x").status_code == 303


@pytest.mark.parametrize(
    ("wanted", "led_to"),
    [
        ("/live?last=6h", "/live?last=6h"),
        ("//evil.example", "/live"),
        ("https://evil.example/live", "/live"),
        ("/\\evil.example", "/live"),
        ("javascript:alert(1)", "/live"),
    ],
)
def test_a_login_leads_to_a_page_of_its_own(wanted: str, led_to: str) -> None:
    assert _own(wanted) == led_to


# -- sockets -------------------------------------------------------------------------------


class Socket:
    """One socket through the doors, as a server would drive it."""

    def __init__(self, workspace: Path, **headers: str) -> None:
        self.sent: list[Message] = []
        self._coming: asyncio.Queue[Message] = asyncio.Queue()
        self._doors = Doors(inside, Login(workspace))
        raw = [(k.encode(), v.encode()) for k, v in {"host": "127.0.0.1", **headers}.items()]
        self._scope: dict[str, Any] = {"type": "websocket", "path": "/ws", "headers": raw}

    async def say(self, kind: str = "websocket.receive") -> None:
        await self._coming.put({"type": kind})
        await asyncio.sleep(0.01)

    async def run(self) -> None:
        async def send(message: Message) -> None:
            self.sent.append(message)

        await self._doors(self._scope, self._coming.get, send)

    @property
    def kinds(self) -> list[str]:
        return [message["type"].removeprefix("websocket.") for message in self.sent]


def test_a_socket_needs_the_cookie_and_ends_with_its_key(tmp_path: Path) -> None:
    key_id, secret = key(tmp_path)
    cookie = f"{COOKIE}={Login(tmp_path).enter(secret)}"

    async def test() -> None:
        refused = Socket(tmp_path)
        task = asyncio.create_task(refused.run())
        await refused.say("websocket.connect")
        await task
        assert refused.kinds == ["close"]
        let_in = Socket(tmp_path, cookie=cookie)
        task = asyncio.create_task(let_in.run())
        await let_in.say("websocket.connect")
        await let_in.say()
        assert let_in.kinds == ["accept", "send"]
        KeyRing(tmp_path / "keys.json").revoke(key_id)
        await asyncio.sleep(1.1)
        await let_in.say()
        await let_in.say()
        assert let_in.kinds == ["accept", "send", "close"]
        await let_in.say("websocket.disconnect")
        await task

    asyncio.run(test())


def test_a_socket_of_another_origin_is_closed(tmp_path: Path) -> None:
    async def test() -> None:
        socket = Socket(tmp_path, origin="http://evil.example")
        task = asyncio.create_task(socket.run())
        await socket.say("websocket.connect")
        await task
        assert socket.kinds == ["close"]

    asyncio.run(test())
