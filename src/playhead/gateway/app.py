"""The gateway's ASGI application: routes, keys, origins, and the way of a body into the log."""

import asyncio
import hashlib
import logging
import os
import re
import shutil
import time
from dataclasses import dataclass
from importlib import resources
from itertools import count
from pathlib import Path

from playhead.clock import Clock, SystemClock
from playhead.config import GatewaySettings
from playhead.contracts import TOPICS
from playhead.contracts.mixed import MixedDecoder
from playhead.errors import KeyRefusedError, KeyRingError, RequestRefusedError
from playhead.eventlog import EventLog
from playhead.gateway import letters
from playhead.gateway.answers import (
    Answer,
    Receive,
    Request,
    Scope,
    Send,
    discard,
    json_answer,
    problem,
    respond,
)
from playhead.gateway.bodies import (
    BodyLimits,
    Budget,
    ClientGoneError,
    Lease,
    collect,
    encoding_of,
    form_of,
    length_of,
)
from playhead.gateway.decoding import Body, BodyDecoder, limits_of, sent_at_of
from playhead.gateway.metrics import MEDIA_TYPE, Metrics
from playhead.gateway.origins import Origins
from playhead.gateway.quota import Quotas
from playhead.gateway.writer import Appended, Writer
from playhead.keys import Key, KeyRing
from playhead.keys import Scope as KeyScope

logger = logging.getLogger(__name__)
access = logging.getLogger("playhead.gateway.access")

ROUTES: dict[str, tuple[str, ...]] = {
    "/v1/events": ("POST", "OPTIONS"),
    "/healthz": ("GET", "HEAD"),
    "/readyz": ("GET", "HEAD"),
    "/metrics": ("GET", "HEAD"),
    "/playhead.js": ("GET", "HEAD"),
}

# An answer before the body was read leaves the connection open where the body is as small as this.
_DISCARDED_BYTES = 64 << 10
_DISCARD_S = 1.0
_DISK_LOOK_S = 1.0
_TROUBLE_RETRY_S = 5
_GONE = 499
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Place:
    """Where a gateway stands.

    Attributes:
        folder: the workspace, whose disk must have room.
        is_local: only this machine can reach it, so that it may work without keys.
        workers: processes that share the address.
    """

    folder: Path
    is_local: bool = True
    workers: int = 1


class Gateway:
    """Takes events in over HTTP and answers once they are durable.

    Args:
        log: has the topics of all contracts; stays the caller's, who closes it after `close`.
    """

    def __init__(
        self,
        place: Place,
        settings: GatewaySettings,
        log: EventLog,
        keys: KeyRing,
        *,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.place = place
        self._settings = settings
        self._keys = keys
        self._clock = clock or SystemClock()
        self.metrics = metrics or Metrics()
        self._origins = Origins(settings.cors_origins)
        self._limits = BodyLimits(settings.max_body_mb << 20, settings.body_seconds)
        decoder = MixedDecoder(limits=limits_of(settings))
        self.budget = Budget(settings.max_waiting_mb << 20)
        self._quotas = Quotas(place.workers, self._clock)
        self._decoder = BodyDecoder(decoder, self._quotas, self._limits.max_bytes)
        self._decoder.warm()
        keys_of_topics = {name: contract.partition_key for name, contract in TOPICS.items()}
        self._writer = Writer(log, self._decoder, keys_of_topics, watch=self._appended)
        self._disk_seen: tuple[float, int] = (float("-inf"), 0)
        self._ids = (f"{os.urandom(6).hex()}-{number}" for number in count(1))
        self._tracker = _tracker()
        self.is_stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the ASGI interface."""
        if scope["type"] != "http":
            return
        began_s = time.perf_counter()
        request = self._request(scope, receive)
        try:
            answer = await self._answer(request)
            if request.is_unread:
                await self._skip_small(request)
        except ClientGoneError:
            self._note(request, _GONE, began_s)
            return
        except asyncio.CancelledError:
            self._note(request, _GONE, began_s)
            raise
        extra = [*self._origins.headers(request), (b"x-request-id", request.id.encode())]
        await respond(request, answer, extra, send)
        self._note(request, answer.status, began_s)

    def close(self, timeout_s: float) -> bool:
        """Write what was handed over; False if that was not done in time. Take no more."""
        self.is_stopping = True
        self._decoder.close()
        return self._writer.close(timeout_s)

    def trouble(self) -> str:
        """Why events cannot be taken in now, in words; empty if they can."""
        if self.is_stopping:
            return "the gateway stops"
        if self._is_disk_low():
            return f"the disk has less than {self._settings.min_free_mb} MB left"
        return self._writer.trouble()

    # -- one request -----------------------------------------------------------------------

    def _request(self, scope: Scope, receive: Receive) -> Request:
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        own = given.decode() if _REQUEST_ID.fullmatch(given) else next(self._ids)
        has_body = b"content-length" in headers or b"transfer-encoding" in headers
        is_unread = has_body and headers.get(b"content-length") != b"0"
        return Request(scope, receive, own, headers, is_unread)

    async def _answer(self, request: Request) -> Answer:
        try:
            return await self._routed(request)
        except RequestRefusedError as refused:
            return problem(refused)
        except KeyRefusedError as refused:
            return problem(_of_key(refused))
        except ClientGoneError:
            raise
        except Exception:
            logger.exception("request %s failed", request.id)
            return problem(
                RequestRefusedError(
                    f"the gateway failed; its log has more under request {request.id}", status=500
                )
            )

    async def _routed(self, request: Request) -> Answer:
        methods = ROUTES.get(request.path)
        if methods is None:
            raise RequestRefusedError(
                "there is nothing here", status=404, hint=f"There are {', '.join(ROUTES)}."
            )
        if request.method not in methods:
            allow = ", ".join(methods)
            raise RequestRefusedError(f"use {allow}", status=405, headers=(("Allow", allow),))
        if request.path == "/v1/events":
            if request.method == "OPTIONS":
                return self._origins.preflight(request)
            return await self._events(request)
        if request.path == "/metrics":
            self._key(request, "read")
            return Answer(200, self.metrics.page(), MEDIA_TYPE)
        if request.path == "/playhead.js":
            return self._script(request)
        return self._health(request)

    async def _events(self, request: Request) -> Answer:
        self._origins.check(request, is_open=self._is_open())
        key = self._key(request, "write")
        form = form_of(request.header(b"content-type"))
        encoding = encoding_of(request.header(b"content-encoding"))
        sent_at = sent_at_of(request)
        length = length_of(request, self._limits)
        self._quotas.check(key)
        if trouble := self.trouble():
            raise RequestRefusedError(trouble, status=503, retry_after_s=_TROUBLE_RETRY_S)
        with Lease(self.budget) as lease:
            lease.check(length or 0)
            content = await collect(request, self._limits, lease)
            body = Body(content, form, self._clock.now(), sent_at, key)
            outcome = await self._writer.submit(await self._decoder.unpack(body, encoding, lease))
        request.events = outcome.count
        rejected = [{"index": one.index, "reason": one.reason} for one in outcome.rejected]
        return json_answer(202, {"accepted": outcome.count - len(rejected), "rejected": rejected})

    # -- who may, and can it -----------------------------------------------------------------

    def _key(self, request: Request, scope: KeyScope) -> Key | None:
        """The request's key, which may do this; None where none is needed."""
        key = self._keys.check(_presented(request, scope), scope)
        if key is None and not self.place.is_local:
            raise RequestRefusedError("a key is needed beyond this machine", status=401)
        request.key_id = None if key is None else key.id
        return key

    def _is_open(self) -> bool:
        try:
            return self._keys.is_open
        except KeyRingError:
            return False

    def _is_disk_low(self) -> bool:
        if not self._settings.min_free_mb:
            return False
        now_s = time.monotonic()
        if now_s - self._disk_seen[0] > _DISK_LOOK_S:
            self._disk_seen = (now_s, shutil.disk_usage(self.place.folder).free)
        return self._disk_seen[1] < self._settings.min_free_mb << 20

    def _health(self, request: Request) -> Answer:
        """/healthz: it answers; /readyz: it could take an event in now."""
        if request.path == "/readyz" and (trouble := self.trouble()):
            raise RequestRefusedError(trouble, status=503, retry_after_s=1)
        return json_answer(200, {"status": "ready" if request.path == "/readyz" else "ok"})

    def _script(self, request: Request) -> Answer:
        """The tracker for web pages."""
        if self._tracker is None:
            raise RequestRefusedError("this gateway has no tracker", status=404)
        etag = b'"' + hashlib.sha256(self._tracker).hexdigest()[:16].encode() + b'"'
        headers = [(b"etag", etag), (b"cache-control", b"public, max-age=3600")]
        headers.append((b"cross-origin-resource-policy", b"cross-origin"))
        if request.headers.get(b"if-none-match") == etag:
            return Answer(304, headers=headers)
        return Answer(200, self._tracker, b"text/javascript; charset=utf-8", headers)

    # -- what is told ------------------------------------------------------------------------

    def _appended(self, appended: Appended) -> None:
        tables, metrics = appended.batch.tables, self.metrics
        good = {t: events.num_rows for t, events in tables.items() if t != letters.TOPIC}
        metrics.accepted(good)
        metrics.rejected(appended.batch.reasons)
        metrics.append_seconds.observe(appended.seconds)
        metrics.group_requests.observe(appended.requests)

    async def _skip_small(self, request: Request) -> None:
        length = request.headers.get(b"content-length", b"")
        if length and int(length) <= _DISCARDED_BYTES:
            await discard(request, _DISCARDED_BYTES, _DISCARD_S)

    def _note(self, request: Request, status: int, began_s: float) -> None:
        seconds = time.perf_counter() - began_s
        route = request.path if request.path in ROUTES else "other"
        self.metrics.answered(route, status, request.bytes_read)
        if request.path == "/v1/events":
            self.metrics.request_seconds.observe(seconds)
        if access.isEnabledFor(logging.DEBUG):
            access.debug(
                "%s %s %d bytes=%d events=%d ms=%.1f key=%s request=%s",
                request.method,
                route,
                status,
                request.bytes_read,
                request.events,
                seconds * 1000,
                request.key_id or "-",
                request.id,
            )


def _presented(request: Request, scope: KeyScope) -> str | None:
    """The key that came with a request; in the address only where nothing else can be sent."""
    scheme, _, secret = request.header(b"authorization").partition(" ")
    if scheme.lower() == "bearer":
        return secret.strip()
    if own := request.header(b"x-playhead-key"):
        return own
    return request.query.get("key") if scope == "write" else None


def _of_key(refused: KeyRefusedError) -> RequestRefusedError:
    asks = (("WWW-Authenticate", "Bearer"),) if refused.status == 401 else ()
    retry_s = 1 if refused.status == 503 else None
    return RequestRefusedError(
        refused.message,
        status=refused.status,
        hint=refused.hint,
        retry_after_s=retry_s,
        headers=asks,
    )


def _tracker() -> bytes | None:
    """The JavaScript that the client package ships; None where it does not."""
    file = resources.files("playhead") / "client" / "playhead.js"
    return file.read_bytes() if file.is_file() else None
