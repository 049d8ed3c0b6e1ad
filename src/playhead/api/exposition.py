"""What Prometheus reads from the API: the workspace, the gateway, this process, its requests."""

import logging
import struct
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from playhead.assemble import Workspace
from playhead.ops.metrics import WorkspaceCollector

__all__ = ["GATEWAY_FOLDER", "Exposition"]

logger = logging.getLogger(__name__)

GATEWAY_FOLDER = Path("run", "metrics")
"""Where the gateway's workers add up their figures, in a workspace whose platform runs."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class _GatewayCollector(Collector):
    """The figures of the gateway's workers, as its own /metrics shows them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> Iterable[Metric]:
        """Nothing is read before the first scrape."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Every figure, summed up over workers; nothing where no gateway runs."""
        if not self._folder.is_dir():
            return []
        try:
            read = MultiProcessCollector(None, self._folder)  # type: ignore[no-untyped-call]
            return list(read.collect())  # type: ignore[no-untyped-call]
        except (OSError, ValueError, RuntimeError, struct.error) as error:
            logger.warning("%s: the gateway's figures are left out: %s", self._folder, error)
            return []


class Exposition:
    """The metrics of one API process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, workspace: Workspace) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(WorkspaceCollector(workspace))
        self._registry.register(_GatewayCollector(workspace.path / GATEWAY_FOLDER))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = Counter(
            "playhead_api_requests",
            "Requests answered, by route and status.",
            ("route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "playhead_api_request_seconds",
            "From a request to the begin of its answer, by route.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: its template, such as "/v1/views/{name}", so that there are few of them.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
