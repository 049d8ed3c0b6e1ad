"""What a request's body may take, before anything looks at the key that came with it."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MAX_BODY_BYTES", "BoundedBody"]

MAX_BODY_BYTES = 1 << 20
BODY_SECONDS = 10.0


class BoundedBody:
    """Ends a request whose body is larger or takes longer than any that is of use.

    Raises:
        HTTPException: 408, 413; within the application, which answers with it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        until = asyncio.get_running_loop().time() + BODY_SECONDS
        size, is_whole = 0, False

        async def bounded() -> Message:
            nonlocal size, is_whole
            if is_whole:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(
                    408, f"the body was not whole after {BODY_SECONDS:g} s"
                ) from None
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                raise HTTPException(413, f"the body has more than {MAX_BODY_BYTES} bytes")
            is_whole = not message.get("more_body", False)
            return message

        await self._app(scope, bounded, send)
