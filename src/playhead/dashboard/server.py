"""Serving the dashboards on a socket that is bound already."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn
import uvloop

from playhead.api.cells import Cells
from playhead.api.server import Server, check_doors, send_at_once
from playhead.api.service import bytes_of
from playhead.assemble import Workspace
from playhead.dashboard.app import create_app
from playhead.dashboard.board import Board
from playhead.dashboard.login import Login
from playhead.gateway.protocol import KEEP_ALIVE_SECONDS, BoundedProtocol, quiet

__all__ = ["serve"]

logger = logging.getLogger(__name__)

_END_S = 2


class _Protocol(BoundedProtocol):
    """A connection with the gateway's bounds."""

    most_connections = 1_000


def serve(workspace: Path, fd: int, *, stop: threading.Event, beat: Callable[[str], None]) -> None:
    """Serve until `stop`.

    Args:
        fd: of a bound socket that listens; closed at the end.
        beat: told by the event loop every second how it is, once it serves.

    Raises:
        SettingError: the address is beyond loopback and no key may read.
    """
    with socket.socket(fileno=fd) as listening, Workspace(workspace) as opened:
        check_doors(opened, listening, "dashboard")
        send_at_once(listening)
        with quiet(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(opened, listening, stop, beat))


async def _serve(
    opened: Workspace, listening: socket.socket, stop: threading.Event, beat: Callable[[str], None]
) -> None:
    settings = opened.settings
    stopping = asyncio.Event()
    cells = Cells(opened.path, memory=bytes_of(settings.api.query_memory), count=1)
    board = Board(opened, cells, Login(opened.path))
    config = uvicorn.Config(
        create_app(board, stopping),
        http=_Protocol,
        ws="websockets-sansio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_END_S,
        ssl_certfile=_file(opened.path, settings.dashboard.tls_certificate),
        ssl_keyfile=_file(opened.path, settings.dashboard.tls_key),
    )
    try:
        await Server(config, stop, beat, on_stop=stopping.set).serve(sockets=[listening])
    finally:
        board.feed.close()
        board.meters.close()
        cells.close()


def _file(workspace: Path, name: str) -> str | None:
    return str(workspace / name) if name else None
