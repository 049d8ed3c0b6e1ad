"""The dashboards as one ASGI application: login, files, and the pages of NiceGUI behind doors."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, Form, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from nicegui import __version__, ui
from nicegui import app as nicegui_app
from nicegui.dependencies import esm_modules
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from playhead.dashboard.board import Board
from playhead.dashboard.doors import Doors
from playhead.dashboard.filters import Filters
from playhead.dashboard.frame import ALWAYS, frame
from playhead.dashboard.login import COOKIE, GOOD_FOR_S, Login
from playhead.dashboard.page import Page, Spec
from playhead.dashboard.pages import live, quality
from playhead.dashboard.pages.history import page as history
from playhead.dashboard.pages.platform import page as platform
from playhead.dashboard.pages.views import page as views
from playhead.errors import KeyRefusedError

__all__ = ["SPECS", "create_app"]

SPECS: Sequence[Spec] = (live.SPEC, history.SPEC, platform.SPEC, quality.SPEC, *views.SPECS)
"""The pages, in the order of the navigation."""

_STATIC = Path(__file__).parent / "static"
_RECONNECT_S = 5.0
_KEPT_EVERY_S = 10.0
"""From one look to the next at what a page asks first while nobody looks at it."""
_NEW_KEY_S = 1.1
"""Keys are looked at anew once a second."""
_KEPT = "public, max-age=3600"
_LOOPBACK = frozenset({"127.0.0.1", "::1"})


def create_app(board: Board, stopping: asyncio.Event) -> ASGIApp:
    """The application over a board; its feed works until `stopping`.

    NiceGUI keeps its pages for the whole process, so there is one application in a process.
    """

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        feeding = asyncio.create_task(board.feed.run(stopping))
        try:
            yield
        finally:
            stopping.set()
            await feeding

    app = FastAPI(lifespan=life, openapi_url=None, docs_url=None, redoc_url=None)
    _add_doors(app, board)
    _add_files(app)
    for spec in SPECS:
        _add_page(board, spec)
        for asked in (*ALWAYS, *spec.kept(board, Filters(spec.period))):
            board.feed.watch(asked, lambda _: None, _KEPT_EVERY_S)
    ui.add_head_html(_head(), shared=True)
    ui.run_with(
        app,
        title="Playhead",
        favicon=_STATIC / "logo.svg",
        language="en-US",
        binding_refresh_interval=None,
        reconnect_timeout=_RECONNECT_S,
        tailwind=False,
        show_welcome_message=False,
        gzip_middleware_factory=_Packing,
    )
    nicegui_app.config.endpoint_documentation = "none"
    return Doors(app, board.login)


class _Packing(GZipMiddleware):
    """Packs answers for other machines; to this one, packing takes longer than sending."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = (scope.get("client") or ("",))[0]
        if scope["type"] == "http" and host in _LOOPBACK:
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _head() -> str:
    """What every page loads first: its look, and ECharts, which is the largest and comes last."""
    charts = Path(inspect.getfile(ui.echart)).parent / "dist"
    loaded = re.findall(r'"\./(index-[\w-]+\.js)"', (charts / "index.js").read_text())
    key = next((key for key, module in esm_modules.items() if module.path == charts), None)
    links = [
        '<link rel="stylesheet" href="/static/dashboard.css">',
        '<script defer src="/static/dashboard.js"></script>',
    ]
    for name in ("index.js", *loaded[:1]) if key is not None else ():
        path = f"/_nicegui/{__version__}/esm/{key}/{name}"
        links.append(f'<link rel="modulepreload" href="{path}">')
    return "".join(links)


def _add_page(board: Board, spec: Spec) -> None:
    @ui.page(spec.path, title=f"{spec.title} · Playhead")
    def shown(request: Request) -> None:
        page = Page(board, request, spec)
        ui.page_title(f"{page.spec.title} · Playhead")
        frame(page, SPECS)


def _add_files(app: FastAPI) -> None:
    @app.get("/")
    async def home() -> Response:
        return RedirectResponse("/live")

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        files = {path.name: path for path in _STATIC.iterdir()}
        if name not in files:
            return Response(status_code=404)
        return FileResponse(files[name], headers={"Cache-Control": _KEPT})

    @app.get("/let-in")
    async def let_in() -> Response:
        return Response(status_code=204)

    @app.get("/healthz")
    @app.get("/readyz")
    async def health() -> Response:
        return JSONResponse({"status": "ok"})


def _add_doors(app: FastAPI, board: Board) -> None:
    @app.get("/login")
    async def login(next: str = "/live") -> Response:  # noqa: A002 - the parameter's name
        if board.login.is_open:
            return RedirectResponse(_own(next), 303)
        return HTMLResponse(_login_page(next))

    @app.post("/login")
    async def enter(
        request: Request,
        key: str = Form("", max_length=200),
        next: str = Form("/live"),  # noqa: A002
    ) -> Response:
        try:
            cookie = await _entered(board.login, key)
        except KeyRefusedError as error:
            return HTMLResponse(_login_page(next, error.message), error.status)
        answer = RedirectResponse(_own(next), 303)
        if cookie is not None:
            answer.set_cookie(
                COOKIE,
                cookie,
                max_age=GOOD_FOR_S,
                httponly=True,
                secure=request.url.scheme == "https",
                samesite="lax",
            )
        return answer

    @app.post("/logout")
    async def leave() -> Response:
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE)
        return answer


async def _entered(login: Login, key: str) -> str | None:
    """The cookie for a key; it may have been made a moment ago.

    Raises:
        KeyRefusedError: it is no key that may read.
    """
    with suppress(KeyRefusedError):
        return login.enter(key)
    await asyncio.sleep(_NEW_KEY_S)
    return login.enter(key)


def _own(wanted: str) -> str:
    """Where to go after the login: a page of these, never another site."""
    told = urlsplit(wanted)
    is_own = not told.scheme and not told.netloc and wanted.startswith("/")
    return wanted if is_own and "\\" not in wanted and not wanted.startswith("//") else "/live"


def _login_page(wanted: str, problem: str = "") -> str:
    told = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Log in · Playhead</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/static/logo.svg"><link rel="stylesheet" href="/static/dashboard.css">
</head><body class="login"><main><form method="post" action="/login">
<img src="/static/logo.svg" alt="" width="40" height="40"><h1>Playhead</h1>
<label for="key">Key with scope read</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<input type="hidden" name="next" value="{escape(wanted)}">{told}
<button type="submit">Log in</button>
<p class="small">Make one on the machine: <code>playhead keys create NAME --scope read</code></p>
</form></main></body></html>"""
