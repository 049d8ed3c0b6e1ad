"""Requests as the gateway sees them, and its answers: JSON, or problem documents (RFC 9457)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from playhead.errors import RequestRefusedError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

JSON = b"application/json"
PROBLEM = b"application/problem+json"

# What is still under way of a refused body is read and thrown away for a moment: closing at once
# could take the answer away from a sender that writes before it reads.
_LINGER_S = 2.0
_LINGER_BYTES = 32 << 20


@dataclass
class Request:
    """One HTTP request.

    Attributes:
        headers: by lower-case name; of a repeated one, the last.
        id: names it in the answer and in the access log.
        is_unread: some of its body may still come.
        events: how many it held, once they were decoded.
        key_id: of the key that it came with, once that was checked.
    """

    scope: Scope
    receive: Receive
    id: str
    headers: Mapping[bytes, bytes]
    is_unread: bool = True
    bytes_read: int = 0
    events: int = 0
    key_id: str | None = None

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    def header(self, name: bytes) -> str:
        """A header's value without blanks around it; empty if it is not there."""
        return self.headers.get(name, b"").decode("latin-1").strip()

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The parameters behind the question mark; of a repeated one, the last."""
        text = bytes(self.scope.get("query_string") or b"").decode("latin-1")
        with suppress(ValueError):
            return dict(parse_qsl(text, max_num_fields=20))
        return {}


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of a response."""

    status: int
    body: bytes = b""
    media_type: bytes = JSON
    headers: Headers = field(default=())


def json_answer(status: int, content: Any) -> Answer:
    """An answer with a value as JSON."""
    return Answer(status, msgspec.json.encode(content))


def problem(refused: RequestRefusedError) -> Answer:
    """A refusal as a problem document, with Retry-After where trying again makes sense."""
    detail = refused.message
    if refused.hint:
        detail = f"{detail.rstrip('.')}. {refused.hint}"
    headers = [(name.lower().encode(), value.encode()) for name, value in refused.headers]
    if refused.retry_after_s is not None:
        headers.append((b"retry-after", str(refused.retry_after_s).encode()))
    return Answer(refused.status, problem_body(refused.status, detail), PROBLEM, headers)


def problem_body(status: int, detail: str) -> bytes:
    """The JSON of a problem document."""
    title = HTTPStatus(status).phrase
    return msgspec.json.encode(
        {"type": "about:blank", "title": title, "status": status, "detail": detail}
    )


async def respond(request: Request, answer: Answer, extra: Headers, send: Send) -> None:
    """Send an answer; where the body is not read to its end, the connection closes after it."""
    headers = [*answer.headers, *extra]
    if answer.status not in (204, 304):
        headers.append((b"content-length", str(len(answer.body)).encode()))
    if answer.body:
        headers.append((b"content-type", answer.media_type))
    if request.is_unread:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = answer.body if request.method != "HEAD" else b""
    if request.is_unread:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await discard(request, _LINGER_BYTES, _LINGER_S)
        body = b""
    await send({"type": "http.response.body", "body": body})


async def discard(request: Request, most_bytes: int, seconds: float) -> None:
    """Read the rest of a body and throw it away, as far as it comes within these bounds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            seen = 0
            while request.is_unread and seen <= most_bytes:
                message = await request.receive()
                seen += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    request.is_unread = False
