"""What stands before every request: who may come in, from where, and what a page may load."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playhead.dashboard.login import COOKIE, Login

__all__ = ["Doors"]

_FREE = frozenset({"/login", "/logout", "/healthz", "/readyz", "/static/dashboard.css",
                   "/static/logo.svg"})  # fmt: skip
_LOOK_EVERY_S = 1.0
_POLICY_VIOLATED = 1008
_HEADERS = {
    # NiceGUI writes its page's start, and functions of charts, into the page itself.
    b"content-security-policy": b"default-src 'self'; script-src 'self' 'unsafe-inline' "
    b"'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    b"font-src 'self' data:; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'self'; "
    b"form-action 'self'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"x-frame-options": b"DENY",
}


class Doors:
    """An application behind doors.

    Without keys, whoever reaches the address may look; so that no web page of others does so
    through a browser that can, requests have to name an address or localhost as their host then.
    With keys, a cookie has to tell which one was shown; one that is revoked meanwhile ends open
    connections, too.
    """

    def __init__(self, app: ASGIApp, login: Login) -> None:
        self._app, self._login = app, login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        cookie = _cookie(headers)
        refused = self._refused(scope, headers, cookie)
        if scope["type"] == "websocket":
            if refused is not None:
                await _close(receive, send)
            else:
                async with _watched(self._login, cookie, send) as sent:
                    await self._app(scope, receive, sent)
        elif refused is not None:
            await refused(scope, receive, _with_headers(send))
        else:
            await self._app(scope, receive, _with_headers(send))

    def _refused(self, scope: Scope, headers: Headers, cookie: str | None) -> Response | None:
        """The answer to a request that may not come in; None if it may."""
        path = scope["path"]
        if path not in _FREE and self._login.is_open and not _is_local(headers.get("host", "")):
            return PlainTextResponse(
                "There are no keys, so this is for the machine itself: ask for it by its address, "
                "or make a key: playhead keys create NAME --scope read\n",
                403,
            )
        if not _is_own(headers):
            return PlainTextResponse("This came from a page of another origin.\n", 403)
        if path in _FREE or self._login.lets_in(cookie):
            return None
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            query = scope.get("query_string", b"").decode("latin-1")
            wanted = f"{path}?{query}" if query else path
            return RedirectResponse(f"/login?next={quote(wanted)}", 303)
        return PlainTextResponse("A key is needed.\n", 401)


@asynccontextmanager
async def _watched(login: Login, cookie: str | None, send: Send) -> AsyncIterator[Send]:
    """What sends over a socket, which closes when its key is revoked, however still it is."""
    is_open, is_shut = False, False

    async def sent(message: Message) -> None:
        nonlocal is_open
        if not is_shut:
            is_open = message["type"] != "websocket.close"
            await send(message)

    async def watch() -> None:
        nonlocal is_shut
        while not is_shut:
            await asyncio.sleep(_LOOK_EVERY_S)
            if is_open and not login.lets_in(cookie):
                is_shut = True
                await send({"type": "websocket.close", "code": _POLICY_VIOLATED})

    watching = asyncio.create_task(watch())
    try:
        yield sent
    finally:
        watching.cancel()


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _is_local(host: str) -> bool:
    """Whether a host is named by its address, or is this machine, so no name of others."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_own(headers: Headers) -> bool:
    """Whether a request comes from one of these pages, or from no page at all."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")


async def _close(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": _POLICY_VIOLATED})


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            known = {name.lower() for name, _ in message["headers"]}
            more = [(name, value) for name, value in _HEADERS.items() if name not in known]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sent
