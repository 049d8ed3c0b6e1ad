"""The read API as one ASGI application."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playhead.api import alerts, gates, health, problems, query, views
from playhead.api.arriving import BoundedBody
from playhead.api.problems import Problem
from playhead.api.service import Service

__all__ = ["create_app"]

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Answers of a Playhead workspace: views, merged of batch and speed; SQL; alerts. Read-only.

Every error is a problem document (RFC 9457). Once a workspace has keys, each request needs one
with scope `read`, as `Authorization: Bearer ...` or `X-Playhead-Key`.
"""
_ASK_HEADERS = ["Authorization", "X-Playhead-Key", "Content-Type", "Last-Event-ID", "If-None-Match"]
_TOLD_HEADERS = [
    "ETag", "Retry-After", "Playhead-Watermark", "Playhead-Coverage", "Playhead-Open-Windows",
    "Playhead-First-Open-Window", "Playhead-Total", "Playhead-Truncated",
]  # fmt: skip


def create_app(service: Service) -> FastAPI:
    """The application over a service, which it closes at its end."""

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(service.cells.start())
        try:
            yield
        finally:
            service.close()
            await starting

    app = FastAPI(
        title="Playhead",
        version=version("playhead"),
        description=_DESCRIPTION,
        lifespan=life,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    for room in (views, query, alerts, gates, health):
        app.include_router(room.router)
    problems.install(app)
    app.add_middleware(BoundedBody)
    app.add_middleware(_Counting, service=service)
    if service.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(service.settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=_ASK_HEADERS,
            expose_headers=_TOLD_HEADERS,
            max_age=3600,
        )
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


class _Counting:
    """Counts requests by their routes, also those that fail; what they ask is not written down."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        is_answered = False

        async def sent(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                route = getattr(scope.get("route"), "path", "other")
                took = time.monotonic() - begun
                self._service.exposition.answered(route, message["status"], took)
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:
            if is_answered:
                raise
            # Here, and not further out, it is counted, and a page of another origin may read it.
            await problems.answer_to(error)(scope, receive, sent)


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        parts = schema.setdefault("components", {}).setdefault("schemas", {})
        parts["Problem"] = Problem.model_json_schema()
        app.openapi_schema = schema
    return app.openapi_schema
