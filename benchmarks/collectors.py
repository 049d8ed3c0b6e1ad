"""The servers that `benchmarks.gateway` measures, each a process on a socket that it inherits.

python -m benchmarks.collectors KIND FOLDER FD NUMBER WORKERS   (KIND: gateway, echo or pydantic)
"""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel

from playhead.gateway import serve

PEER_FILE = "events.jsonl"
READY = "ready"


class Watch(BaseModel):
    """A playback event as a FastAPI service would declare it."""

    event_id: str
    event_type: Literal["watch"]
    event_time: datetime
    user_id: str
    session_id: str
    device_type: str
    movie_id: str
    watch_date: date
    watch_duration_minutes: Decimal
    progress_percentage: Decimal
    action: Literal["started", "stopped", "paused", "completed"]
    quality: str
    location_country: str
    is_download: bool
    user_rating: int | None = None


async def echo(
    scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
) -> None:
    """Read a body and answer: what the HTTP server alone can do."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    headers = [(b"content-length", b"29"), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"accepted":0,"rejected":[]} '})


def pydantic_collector(folder: Path) -> FastAPI:
    """The plain way: models parse the events, which are appended to a file as JSON lines."""
    app = FastAPI()
    file = (folder / PEER_FILE).open("ab", buffering=0)

    @app.post("/v1/events", status_code=202)
    def take(events: list[Watch]) -> dict[str, int]:
        file.write(b"".join(one.model_dump_json().encode() + b"\n" for one in events))
        os.fsync(file.fileno())
        return {"accepted": len(events)}

    return app


def main(kind: str, folder: str, fd: str, number: str, workers: str) -> None:
    """Serve until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if kind == "gateway":
        serve(
            Path(folder),
            int(fd),
            number=int(number),
            workers=int(workers),
            stop=stop,
            beat=lambda *_, **__: (Path(folder) / f"{READY}-{number}").touch(),
        )
        return
    app = echo if kind == "echo" else pydantic_collector(Path(folder))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    listener = socket.socket(fileno=int(fd))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main(*sys.argv[1:])
