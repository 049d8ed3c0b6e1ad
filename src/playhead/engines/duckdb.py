"""DuckDB, the embedded engine: it computes and keeps nothing (what lasts is SQLite or Iceberg)."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from playhead import disk
from playhead.engines.base import Engine
from playhead.errors import EngineError
from playhead.views.leaf import Leaf
from playhead.views.view import View

ARROW_ROWS = 122_880
"""Rows of one batch of an answer. DuckDB takes room for a whole batch of each column at first:
with its default of a million, half a gigabyte for an answer of 16 columns and one row."""

WORKER_MEMORY = "1GB"
"""What a session of `connect_worker` takes before it spills."""

_SPILL = "duckdb-"
_SPILL_KEPT_S = 24 * 3600.0


def connect(
    *, memory_limit: str | None = None, threads: int | None = None, temp_dir: Path | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB session with Playhead's settings.

    Args:
        memory_limit: such as "4GB"; DuckDB's default is 80 % of the machine's memory.
        threads: worker threads; DuckDB's default is one per core.
        temp_dir: where operators spill when they outgrow `memory_limit`: each session in a folder
            of its own there, which goes when the session is closed.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    if threads is not None:
        config["threads"] = threads
    if temp_dir is not None:
        config["temp_directory"] = str(_spill_folder(temp_dir))
    connection = duckdb.connect(":memory:", config=config)
    # For cursors, too: a locked session takes no setting of theirs.
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    # DuckDB would push a join's Bloom filter into Arrow tables (in a union with Parquet files),
    # and then finds that it cannot filter them by one.
    connection.execute("SET disabled_optimizers = 'join_filter_pushdown'")
    return connection


def connect_worker(temp_dir: Path) -> duckdb.DuckDBPyConnection:
    """A session in one of a cluster's processes, of which a machine has one for each core.

    Args:
        temp_dir: as for `connect`.
    """
    return connect(memory_limit=WORKER_MEMORY, threads=1, temp_dir=temp_dir)


def memory_limit(connection: duckdb.DuckDBPyConnection) -> int:
    """The bytes that a session may take, to about a hundredth."""
    sql = "SELECT parse_formatted_bytes(current_setting('memory_limit'))"
    (limit,) = connection.execute(sql).fetchall()[0]
    return int(limit)


def lock_in(connection: duckdb.DuckDBPyConnection, folder: Path, *, spill: str) -> None:
    """Let a session and its cursors reach nothing but one folder, and change no setting; for good.

    Python's variables, other files, the network and extensions are out of reach. What is locked
    can still write into the folder by COPY: whoever takes SQL from others refuses statements
    other than SELECT (`playhead.serving.jail`).

    Args:
        folder: what stays readable, with all below it.
        spill: how much of the session's scratch folder may be used, such as "4GB".
    """
    for setting in (
        f"allowed_directories = ['{_escaped(folder.absolute())}/']",
        f"max_temp_directory_size = '{spill}'",
        "allow_community_extensions = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET GLOBAL {setting}")


def _escaped(path: Path) -> str:
    return str(path).replace("'", "''")


def drop_spill(temp_dir: Path, process: int) -> None:
    """Delete what the sessions of a process that is gone (or about to go) have spilled."""
    for left in temp_dir.glob(f"{_SPILL}{process}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _spill_folder(temp_dir: Path) -> Path:
    """A new name in `temp_dir`; what killed sessions left there more than a day ago is deleted.

    DuckDB names its files alike in every process: two sessions that spill into one folder write
    over each other's rows, and nobody notices.
    """
    with suppress(OSError):
        temp_dir.mkdir(parents=True, exist_ok=True)
        for left in temp_dir.glob(f"{_SPILL}*"):
            if time.time() - left.stat().st_mtime > _SPILL_KEPT_S:
                shutil.rmtree(left, ignore_errors=True)
    return temp_dir / f"{_SPILL}{os.getpid()}-{uuid.uuid4().hex}"


class DuckDBEngine(Engine):
    """Runs plans in one DuckDB session.

    Args:
        connection: the session to use; its own in-memory one if None.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection | None = None) -> None:
        self._connection = connection or connect()

    def partial(self, leaf: Leaf, events: pa.Table) -> pa.Table:
        return self.run(leaf.partial(), {"events": events}, f"partial of {leaf.name}")

    def merge(self, leaf: Leaf, states: Sequence[pa.Table]) -> pa.Table:
        together = states[0] if len(states) == 1 else pa.concat_tables(states)
        return self.run(leaf.merge(), {"states": together}, f"merge of {leaf.name}")

    def final(
        self, view: View, states: Mapping[str, pa.Table], dimensions: Mapping[str, pa.Table]
    ) -> pa.Table:
        return self.run(view.plans.final, {**dimensions, **states}, f"view {view.name}")

    def full(self, view: View, relations: Mapping[str, pa.Table]) -> pa.Table:
        return self.run(view.plans.full, relations, f"view {view.name}")

    def sort(self, table: pa.Table) -> pa.Table:
        """The same rows, ordered by all columns."""
        return self.run("FROM rows ORDER BY ALL NULLS LAST", {"rows": table}, "sort")

    def run(self, sql: str, relations: Mapping[str, pa.Table], what: str) -> pa.Table:
        """The answer of a query over some relations.

        Args:
            what: for messages, such as "view daily_engagement".

        Raises:
            EngineError: it fails.
        """
        with self._registered(relations):
            try:
                return self._connection.execute(sql).to_arrow_table()
            except (duckdb.OutOfRangeException, duckdb.ConversionException) as error:
                raise EngineError(
                    f"{what}: {str(error).splitlines()[0]}",
                    hint="A number outgrew its type: CAST it to a wider DECIMAL in the view.",
                ) from error
            except duckdb.Error as error:
                raise EngineError(f"{what}: {error}", hint=disk.advice(error)) from error

    @contextmanager
    def _registered(self, relations: Mapping[str, pa.Table]) -> Iterator[None]:
        for name, table in relations.items():
            self._connection.register(name, table)
        try:
            yield
        finally:
            for name in relations:
                self._connection.unregister(name)
