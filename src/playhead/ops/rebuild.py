"""Makes states anew from the lake and the event log, and mends what one of them can give back."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb

from playhead.assemble import BatchReport, Workspace
from playhead.batch.recompute import NAMESPACE, state_table
from playhead.errors import EventLogError, LakeError, StateError, WorkspaceError
from playhead.eventlog.inspect import LogInspector
from playhead.lake.recover import needs_recovery, recover_catalog
from playhead.lake.tables import dimension_name, raw_name
from playhead.lock import RoleLock
from playhead.ops.findings import session
from playhead.ops.restore import LogMender, Mended, RawRestorer
from playhead.serving import find_view
from playhead.speed.statefile import StateFile
from playhead.views import View
from playhead.views.naming import state_name

logger = logging.getLogger(__name__)

_STATE_FILES = ("state.db", "state.db-wal", "state.db-shm")
_VERSION = ".metadata.json"
_DERIVED = (dimension_name("pair_ratings"),)


@dataclass(frozen=True)
class RebuildReport:
    """What a rebuild did.

    Attributes:
        mended: damaged places, and what became of each.
        batch: the batch run that made the states.
    """

    views: tuple[str, ...]
    mended: tuple[Mended, ...]
    batch: BatchReport | None

    @property
    def lost(self) -> tuple[Mended, ...]:
        """What could not be mended."""
        return tuple(one for one in self.mended if one.lost)


def rebuild(
    workspace: Workspace,
    names: Sequence[str] = (),
    *,
    everything: bool = False,
    drop_lost: bool = False,
    on_stage: Callable[[str], None] | None = None,
) -> RebuildReport:
    """Drop the states of some views, of both layers, and make them anew.

    Args:
        names: views; none with `everything`.
        everything: all views; before that, mend the event log and the raw tables from each other
            and make the cleaned tables anew.
        drop_lost: with `everything`, drop damaged dimensions and reports, which come from files.
        on_stage: told what is being worked on.

    Raises:
        EventLogError: the event log's file is missing.
        WorkspaceBusyError: a speed layer, a load or a batch run is at work.
        UnknownViewError: no view of that name.
    """
    chosen = [find_view(workspace.views, name) for name in names]
    if everything:
        chosen = list(workspace.views.values())
    if not workspace.settings.log.brokers:
        _check_log(workspace.path / "log.db")
    with session(workspace) as connection, ExitStack() as roles:
        for role in ("speed layer", "load"):
            roles.enter_context(RoleLock(workspace.path / f"{role.split()[0]}.lock", role))
        return _Rebuild(workspace, connection, chosen, on_stage or (lambda _: None)).run(
            everything=everything, drop_lost=drop_lost
        )


def _check_log(path: Path) -> None:
    """Refuse to work beside an empty log that opening would make."""
    if not path.exists() or not path.stat().st_size:
        raise EventLogError(f"the event log {path} is missing", hint="Restore it from a backup.")


class _Rebuild:
    """One run; its process holds the roles of the speed layer and of the loader."""

    def __init__(
        self,
        workspace: Workspace,
        connection: duckdb.DuckDBPyConnection,
        views: Sequence[View],
        tell: Callable[[str], None],
    ) -> None:
        self._workspace = workspace
        self._connection = connection
        self._views = views
        self._tell = tell

    def run(self, *, everything: bool, drop_lost: bool) -> RebuildReport:
        names = tuple(view.name for view in self._views)
        mended = list(self._recover_catalog()) if everything else []
        mended += self._replace_damaged_state()
        replaced = any(one.place.endswith("state.db") for one in mended)
        if everything:
            mended += self._mend()
            mended += self._drop_damaged(drop_lost=drop_lost)
        if any(one.lost for one in mended):
            return RebuildReport(names, tuple(mended), None)
        self._tell("sealing")
        self._seal(drain=replaced)
        with RoleLock(self._workspace.path / "batch.lock", "batch"):
            self._drop_states(everything=everything)
        report = self._workspace.batch(full=everything, why="rebuild", on_stage=self._tell)
        if everything:
            self._forget_history()
        return RebuildReport(names, tuple(mended), report)

    def _recover_catalog(self) -> Iterator[Mended]:
        if self._workspace.settings.lake.warehouse:
            # Its catalog is a database of others, with backups of its own.
            return
        root = self._workspace.path / "lake"
        if why := needs_recovery(root):
            aside, names = recover_catalog(root, self._workspace.clock.now())
            yield Mended(why, f"made anew with {len(names)} tables; what was there is {aside}")

    def _forget_history(self) -> None:
        """Drop older versions and snapshots that are damaged: no query needs them."""
        lake = self._workspace.lake
        lake.discard(lake.inspector.lost_metadata())
        for table in lake.tables():
            older = [bad.path for bad in lake.inspector.metadata(table) if not bad.needed]
            versions = [path for path in older if path.endswith(_VERSION)]
            lake.discard(versions)
            if len(older) > len(versions) or self._has_damaged_history(table):
                lake.expire(table, older_than=timedelta(0))

    def _has_damaged_history(self, table: str) -> bool:
        inspector = self._workspace.lake.inspector
        try:
            return any(True for _ in inspector.data(inspector.older_files(table)))
        except LakeError:
            return True

    def _mend(self) -> Iterator[Mended]:
        """Log blocks from the lake first: raw files then find whatever there is."""
        lake, log = self._workspace.lake, self._workspace.log
        if not self._workspace.settings.log.brokers:
            self._tell("mending the event log")
            inspector = LogInspector(self._workspace.path / "log.db")
            yield from LogMender(inspector, lake, self._connection).run(log)
        for table in lake.tables("raw"):
            self._tell(f"mending {table}")
            bad = lake.inspector.metadata(table)
            if bad and bad[0].needed:
                yield Mended(
                    f"{table}: {bad[0].path}",
                    f"{bad[0].what}: its rows cannot be found without it. Restore the file from a "
                    "backup",
                    lost=True,
                )
                continue
            topic = table.removeprefix(raw_name(""))
            restorer = RawRestorer(lake, log, self._workspace.state, self._connection)
            yield from restorer.run(topic)

    def _replace_damaged_state(self) -> Iterator[Mended]:
        """Put a state file that cannot be read aside; the speed layer starts over after the lake.

        Damaged blocks alone need no new file: all blocks of the views are dropped anyway.
        """
        path = self._workspace.path / "state.db"
        if not path.exists():
            return
        try:
            with closing(StateFile(path)):
                return
        except (StateError, WorkspaceError) as error:
            logger.debug("%s", error)
        stamp = self._workspace.clock.now().strftime("%Y%m%d-%H%M%S")
        aside = self._workspace.path / f"damaged-{stamp}"
        aside.mkdir()
        for name in _STATE_FILES:
            if (self._workspace.path / name).exists():
                shutil.move(self._workspace.path / name, aside / name)
        yield Mended(
            str(path),
            f"moved to {aside}: the speed layer starts over after the lake. Alerts that were "
            "raised stay in the topic of alerts",
        )

    def _seal(self, *, drain: bool) -> None:
        """Put all that the speed layer has taken in into the lake, then drop the views' states.

        Args:
            drain: take in all of the event log first: the state that said how far it was is gone.
        """
        layer = self._workspace.speed_layer(self._connection)
        layer.start()
        if drain:
            layer.run(threading.Event(), drain=True)
        layer.seal()
        states = [state_name(view, leaf) for view in self._views for leaf in view.leaves]
        self._workspace.state.unregister(states)

    def _drop_states(self, *, everything: bool) -> None:
        lake = self._workspace.lake
        wanted = {state_table(view, leaf) for view in self._views for leaf in view.leaves}
        for table in lake.tables(NAMESPACE):
            if everything or table in wanted:
                lake.drop(table)

    def _drop_damaged(self, *, drop_lost: bool) -> Iterator[Mended]:
        """Damaged tables beside raw ones and states: dropped if they can be made anew."""
        lake = self._workspace.lake
        for table in lake.tables():
            room = table.split(".")[0]
            what = "" if room in ("raw", NAMESPACE) else self._damage(table)
            if not what:
                continue
            derived = room == "clean" or table in _DERIVED
            if derived or drop_lost:
                lake.drop(table)
                told = "made anew" if derived else "load its files again"
                yield Mended(table, f"{what}: dropped; {told}")
            else:
                told = "restore it from a backup, or drop the table by `playhead rebuild --all "
                told += "--drop-lost` and load its files again"
                yield Mended(table, f"{what}: it comes from files; {told}", lost=True)

    def _damage(self, table: str) -> str:
        """What keeps a table from being read; empty if nothing does."""
        inspector = self._workspace.lake.inspector
        bad = [found for found in inspector.metadata(table) if found.needed]
        bad = bad or list(inspector.data(inspector.files(table)))
        return f"{bad[0].path} {bad[0].what}" if bad else ""
