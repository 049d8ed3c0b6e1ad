"""What a workspace is doing, for Prometheus: made of what its files say when it is asked."""

import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from playhead.assemble import Workspace
from playhead.batch.journal import ABANDONED, FAILED, RUNNING, batch_runs, last_done
from playhead.batch.recompute import StateCoverage, state_table
from playhead.errors import PlayheadError
from playhead.lake import Snapshot
from playhead.ops.gates import measure
from playhead.ops.lag import measure_lag, read_positions
from playhead.ops.storage import TableSize, bytes_free, file_bytes
from playhead.speed.alerts import TOPIC as ALERTS
from playhead.views.header import DEFAULT_WATERMARK
from playhead.views.naming import state_name

__all__ = ["WorkspaceCollector"]

_LAKE_KEPT_S = 10.0
_EPOCH = datetime(1970, 1, 1)
_TOPIC = ("topic",)
_PLACE = ("topic", "partition")
_GATE = ("gate", "unit", "span")


class WorkspaceCollector(Collector):
    """Reads a workspace at every scrape; what the lake holds is read every ten seconds.

    A part that cannot be read is left out, and counted in `playhead_scrape_errors`.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lake: list[Metric] = []
        self._lake_read_at = float("-inf")
        self._turn = threading.Lock()
        self._parts = (
            self._lag, self._progress, self._epochs, self._states, self._gates, self._of_lake,
            self._disk, self._batch,
        )  # fmt: skip

    def describe(self) -> Iterable[Metric]:
        """Nothing is read before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, each time with all its values."""
        with self._turn:
            failed = 0
            for part in self._parts:
                try:
                    yield from list(part())
                except (PlayheadError, OSError):
                    failed += 1
            yield _gauge("playhead_scrape_errors", "Parts that could not be read.", failed)

    def _lag(self) -> Iterator[Metric]:
        log, state = self._workspace.log, self._workspace.state
        ends = _family("playhead_log_end_offset", "Events ever appended.", _PLACE)
        lag = _family("playhead_lag_events", "In the log, not in speed state yet.", _PLACE)
        oldest = _family(
            "playhead_lag_seconds", "Since the oldest event that waits came; 0 for none.", _PLACE
        )
        topics = [topic for topic in log.topics() if topic != ALERTS]
        for one in measure_lag(log, read_positions(state), self._workspace.clock.now(), topics):
            place = (one.topic, str(one.partition))
            ends.add_metric(place, one.end)
            lag.add_metric(place, one.events)
            oldest.add_metric(place, one.waited_s)
        yield from (ends, lag, oldest)

    def _progress(self) -> Iterator[Metric]:
        events = _counter("playhead_events", "Events counted by the speed layer.", _TOPIC)
        repeats = _counter("playhead_duplicates", "Events that had come before.", _TOPIC)
        late = _counter("playhead_late_events", "Events of windows that were final.", _TOPIC)
        newest = _family("playhead_event_time_seconds", "The highest event time, Unix.", _TOPIC)
        final = _family(
            "playhead_watermark_seconds", "Windows up to this Unix time are final.", _TOPIC
        )
        age = _family("playhead_event_age_seconds", "Since the highest event time.", _TOPIC)
        now, held = self._workspace.clock.now(), DEFAULT_WATERMARK.total_seconds()
        for topic, seen in self._workspace.state.progress().items():
            events.add_metric((topic,), seen.events)
            repeats.add_metric((topic,), seen.duplicates)
            late.add_metric((topic,), seen.late)
            if seen.max_event_time is not None:
                newest.add_metric((topic,), _unix(seen.max_event_time))
                final.add_metric((topic,), _unix(seen.max_event_time) - held)
                age.add_metric((topic,), (now - seen.max_event_time).total_seconds())
        yield from (events, repeats, late, newest, final, age)

    def _epochs(self) -> Iterator[Metric]:
        state = self._workspace.state
        counts = _family("playhead_epochs", "Epochs of speed state, by status.", ("status",))
        statuses = [status for _, status in state.epochs()]
        for status in ("open", "sealing", "sealed"):
            counts.add_metric((status,), statuses.count(status))
        yield counts
        yield _gauge("playhead_epoch_open", "The epoch that takes events in.", state.open_epoch())
        yield _gauge("playhead_epoch_sealed", "The last one in the lake.", state.sealed_epoch())

    def _states(self) -> Iterator[Metric]:
        blocks = _family("playhead_state_blocks", "Blocks of speed state.", ("view",))
        rows = _family("playhead_state_rows", "Rows of speed state.", ("view",))
        size = _family(
            "playhead_state_bytes", "Bytes of speed state; shared ones count for each.", ("view",)
        )
        sizes = self._workspace.state.sizes()
        for view in self._workspace.views.values():
            found = [sizes.get(state_name(view, leaf), (0, 0, 0)) for leaf in view.leaves]
            for family, values in zip((blocks, rows, size), zip(*found, strict=True), strict=True):
                family.add_metric((view.name,), sum(values))
        yield from (blocks, rows, size)

    def _gates(self) -> Iterator[Metric]:
        """Every gate; over a span in which nothing was measured it has no value and no pass."""
        limit = _family("playhead_gate_limit", "What a gate allows.", ("gate", "unit"))
        value = _family("playhead_gate_value", "What was measured, over a span up to now.", _GATE)
        passes = _family("playhead_gate_pass", "1: the gate is kept; 0: it fails.", _GATE)
        for gate in measure(self._workspace):
            limit.add_metric((gate.name, gate.unit), gate.limit)
            for span, one in gate.values.items():
                if one.value is not None:
                    value.add_metric((gate.name, gate.unit, span), one.value)
                    passes.add_metric((gate.name, gate.unit, span), one.status == "pass")
        yield from (limit, value, passes)

    def _of_lake(self) -> Iterator[Metric]:
        if time.monotonic() - self._lake_read_at > _LAKE_KEPT_S:
            self._lake = list(self._read_lake())
            self._lake_read_at = time.monotonic()
        yield from self._lake

    def _read_lake(self) -> Iterator[Metric]:
        lake = self._workspace.lake
        rows = _family("playhead_lake_rows", "Rows of a lake table.", ("table",))
        size = _family("playhead_lake_bytes", "Bytes of its data files.", ("table",))
        files = _family("playhead_lake_files", "Its data files.", ("table",))
        tables = {name: lake.snapshot(name) for name in lake.tables()}
        for table in map(TableSize.of, tables.values()):
            rows.add_metric((table.name,), table.rows)
            size.add_metric((table.name,), table.bytes)
            files.add_metric((table.name,), table.files)
        yield from (rows, size, files)
        yield self._covered(tables)

    def _covered(self, tables: dict[str, Snapshot]) -> Metric:
        """How far the batch layer has come with each view."""
        covered = _family(
            "playhead_batch_epoch", "The last epoch in a view's batch states; 0: none.", ("view",)
        )
        for view in self._workspace.views.values():
            found = [tables.get(state_table(view, leaf)) for leaf in view.leaves]
            coverage = [None if f is None else StateCoverage.of(f.properties) for f in found]
            covered.add_metric((view.name,), min(0 if c is None else c.epoch for c in coverage))
        return covered

    def _disk(self) -> Iterator[Metric]:
        path = self._workspace.path
        size = _family("playhead_file_bytes", "Bytes of a file with its journal.", ("file",))
        brokers = self._workspace.settings.log.brokers
        for name in ("state.db",) if brokers else ("log.db", "state.db"):
            size.add_metric((name,), file_bytes(path / name))
        yield size
        yield _gauge("playhead_disk_free_bytes", "Free where the workspace is.", bytes_free(path))
        begun = path / "batch.lock"
        yield _gauge(
            "playhead_batch_started_seconds",
            "When the last batch run began, Unix; 0: never.",
            begun.stat().st_mtime if begun.exists() else 0,
        )

    def _batch(self) -> Iterator[Metric]:
        """The batch run that is at work, the last one that ended, the last that did all."""
        runs, done = batch_runs(self._workspace.path, 2), last_done(self._workspace.path)
        at_work = any(run.status == RUNNING for run in runs)
        yield _gauge("playhead_batch_running", "1: a batch run is at work.", at_work)
        succeeded = 0.0 if done is None or done.ended is None else _unix(done.ended)
        yield _gauge(
            "playhead_batch_succeeded_seconds",
            "When the last batch run that did all ended, Unix; 0: none is known.",
            succeeded,
        )
        if last := next((run for run in runs if run.status != RUNNING), None):
            failed = last.status in (FAILED, ABANDONED)
            yield _gauge("playhead_batch_failed", "1: the last batch run failed, or died.", failed)
        if done is not None:
            yield _gauge(
                "playhead_batch_run_seconds", "Of the last batch run that did all.", done.seconds
            )
            stages = _family("playhead_batch_stage_seconds", "Of its stages.", ("stage",))
            for stage in done.stages:
                stages.add_metric((stage.name,), stage.seconds)
            yield stages
            rows = _family("playhead_batch_view_rows", "State rows that it wrote.", ("view",))
            for run in done.views:
                rows.add_metric((run.view,), run.rows)
            yield rows


def _family(name: str, meaning: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, labels=labels)


def _counter(name: str, meaning: str, labels: tuple[str, ...]) -> CounterMetricFamily:
    return CounterMetricFamily(name, meaning, labels=labels)


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)


def _unix(time: datetime) -> float:
    return (time.replace(tzinfo=UTC) - _EPOCH.replace(tzinfo=UTC)).total_seconds()
