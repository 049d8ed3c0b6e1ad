"""What a gateway counts: for Prometheus, over all workers, and for the quality gates."""

import os
import resource
import time
from collections import Counter as Tally
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from playhead import samples
from playhead.samples import Samples

MEDIA_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_GROUPS = (1, 2, 4, 8, 16, 32, 64, 128)
_PROCESS_FILES = Path("/proc/self/fd")
_MEMORY_FILE = Path("/proc/self/statm")


@dataclass
class Sums:
    """What this worker did since it started.

    Attributes:
        accepted, rejected: events in the log, and in the dead letters.
        requests: of every route.
        refused: requests that were answered 400 or above.
    """

    accepted: int = 0
    rejected: int = 0
    requests: int = 0
    refused: int = 0

    def __sub__(self, before: "Sums") -> "Sums":
        return Sums(
            self.accepted - before.accepted,
            self.rejected - before.rejected,
            self.requests - before.requests,
            self.refused - before.refused,
        )


class Metrics:
    """Figures of one worker; with PROMETHEUS_MULTIPROC_DIR set, any worker shows all of them.

    The variable has to be set before prometheus_client is imported.

    Args:
        gates: where events are counted for the quality gates; None: nowhere.
    """

    def __init__(self, gates: Samples | None = None) -> None:
        self._gates = gates
        self.sums = Sums()
        self._registry = CollectorRegistry()
        prefix = "playhead_gateway_"
        own = self._registry
        self._accepted = Counter(
            f"{prefix}events_accepted", "Events made durable.", ["topic"], registry=own
        )
        self._rejected = Counter(
            f"{prefix}events_rejected",
            "Events that went to the dead letters, by class of reason.",
            ["reason"],
            registry=own,
        )
        self._requests = Counter(
            f"{prefix}requests",
            "Requests by route and status; 499: the client went away.",
            ["route", "status"],
            registry=own,
        )
        self._bytes = Counter(f"{prefix}body_bytes", "Bytes of bodies, as sent.", registry=own)
        self.request_seconds = Histogram(
            f"{prefix}request_seconds",
            "From a POST's headers to its answer.",
            buckets=_SECONDS,
            registry=own,
        )
        self.append_seconds = Histogram(
            f"{prefix}append_seconds", "Of one append.", buckets=_SECONDS, registry=own
        )
        self.group_requests = Histogram(
            f"{prefix}group_requests",
            "Requests made durable by one append.",
            buckets=_GROUPS,
            registry=own,
        )
        self._waiting = _gauge(f"{prefix}waiting_bytes", "Bodies not yet durable.", own)
        self._connections = _gauge(f"{prefix}connections", "Open connections.", own)
        self._memory = _gauge("playhead_gateway_resident_memory_bytes", "Resident memory.", own)
        self._cpu = _gauge("playhead_gateway_cpu_seconds", "CPU time, user and system.", own)
        self._files = _gauge("playhead_gateway_open_fds", "Open files.", own)
        _gauge("playhead_gateway_start_time_seconds", "Start, since 1970.", own, "liveall").set(
            time.time()
        )

    def accepted(self, by_topic: Mapping[str, int]) -> None:
        """Count events that are durable now."""
        self.sums.accepted += sum(by_topic.values())
        for topic, events in by_topic.items():
            if events:
                self._accepted.labels(topic).inc(events)
                if self._gates is not None:
                    self._gates.counter(samples.ACCEPTED, topic=topic).add(events)

    def rejected(self, by_reason: "Tally[str]") -> None:
        """Count events in the dead letters, by class of reason."""
        self.sums.rejected += by_reason.total()
        for reason, events in by_reason.items():
            self._rejected.labels(reason).inc(events)
            if self._gates is not None:
                self._gates.counter(samples.REJECTED, reason=reason).add(events)

    def answered(self, route: str, status: int, nbytes: int) -> None:
        """Count a request, and the bytes of its body as sent."""
        self.sums.requests += 1
        self.sums.refused += status >= HTTPStatus.BAD_REQUEST
        self._requests.labels(route, str(status)).inc()
        if nbytes:
            self._bytes.inc(nbytes)

    def measure(self, waiting_bytes: int, connections: int) -> None:
        """Note what the process holds now; meant to be called every second."""
        self._waiting.set(waiting_bytes)
        self._connections.set(connections)
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._cpu.set(used.ru_utime + used.ru_stime)
        with suppress(OSError):
            pages = int(_MEMORY_FILE.read_text(encoding="ascii").split()[1])
            self._memory.set(pages * os.sysconf("SC_PAGE_SIZE"))
            self._files.set(len(os.listdir(_PROCESS_FILES)))  # noqa: PTH208 - names are enough

    def page(self) -> bytes:
        """All figures in Prometheus' text format, those of the other workers included."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _gauge(name: str, text: str, registry: CollectorRegistry, mode: str = "livesum") -> Gauge:
    return Gauge(name, text, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]
