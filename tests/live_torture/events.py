"""The events that clients send: each is made from its client and number, but for its time."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Event = dict[str, Any]

USERS = 9
"""Of all clients together."""

_BAD_EVERY = 23
_DAYS = (0, 0, 0, 0, 0, 0, 1, 2, 40)

_TOPICS: dict[str, Callable[[int], Event]] = {
    "playback": lambda n: {
        "event_type": "watch", "session_id": f"s{n}", "movie_id": f"m{n % 5}",
        "action": "stopped", "quality": "HD", "watch_duration_minutes": n % 300 / 4,
        "progress_percentage": n % 100, "is_download": False,
    },
    "search": lambda n: {
        "event_type": "search", "search_query": f"drama {n}", "results_returned": n % 9,
        "had_typo": n % 4 == 0,
    },
    "heartbeat": lambda n: {
        "event_type": ("play", "pause", "resume")[n % 3], "session_id": f"s{n}",
        "movie_id": f"m{n % 5}", "position_seconds": n % 1000,
    },
    "interaction": lambda n: {"event_type": ("click", "hover")[n % 2], "page": f"/{n % 7}"},
    "telemetry": lambda n: {"event_type": "bandwidth", "bandwidth_kbps": n},
    "account": lambda n: {"event_type": "plan_changed", "new_plan": "Basic"},
    "catalog": lambda n: {"event_type": "title_changed", "movie_id": f"m{n % 5}", "user_id": None},
}  # fmt: skip

TOPICS = tuple(_TOPICS)
_NO_DEVICE = ("account", "catalog")


def event_id(client: str, number: int) -> str:
    return f"{client}:{number}"


def origin(found: str) -> tuple[str, int]:
    """The client and number of an event's id.

    Raises:
        ValueError: no client of this harness made it.
    """
    client, _, number = found.partition(":")
    return client, int(number)


def topic_of(number: int) -> str:
    """Where a good event goes."""
    return TOPICS[number % len(TOPICS)]


def is_bad(number: int) -> bool:
    """Whether the gateway has to refuse it."""
    return number % _BAD_EVERY == _BAD_EVERY - 1


def fields(client: str, number: int) -> Event:
    """An event without its time."""
    topic = topic_of(number)
    made = {"event_id": event_id(client, number), "user_id": f"u{number % USERS}"}
    if topic not in _NO_DEVICE:
        made["device_type"] = "Mobile"
    return made | _TOPICS[topic](number)


def event(client: str, number: int) -> Event:
    """An event as it is sent now; its time is within the last hour, or some days ago."""
    r = random.Random(f"{client}/{number}")
    ago = timedelta(days=r.choice(_DAYS), seconds=r.uniform(0, 3600))
    made = fields(client, number) | {"event_time": (datetime.now(UTC) - ago).isoformat()}
    if is_bad(number):
        made |= r.choice(_FAULTS)
    return made


_FAULTS: tuple[Event, ...] = (
    {"event_type": "levitation"},
    {"event_time": "2199-01-01T00:00:00Z"},
    {"event_time": "noon"},
    {"no_such_field": 1},
    {"user_id": 7},
)
