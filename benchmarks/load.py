"""Load: files of a data set -> checked, raw and clean rows in the lake, with a quality report.

The peers, measured in the same run, are DuckDB's own readers over the same files: into a Parquet
file of plain columns, nothing checked, numbered, cleaned or reported. What became of every row is
compared with the files themselves before a figure is printed.
"""

import argparse
import tempfile
from datetime import date
from pathlib import Path

from benchmarks.measure import Figure, alone, show, timed
from playhead.assemble import Workspace
from playhead.contracts import TOPICS
from playhead.engines import connect
from playhead.testing.generate import GenerateSpec, generate
from playhead.testing.generate.files import NAMES
from playhead.testing.generate.writing import Format

FORMATS: tuple[Format, ...] = ("csv", "parquet")


def prepare(folder: str, sessions: int, users: int) -> Figure:
    """The same data set in every format."""
    spec = GenerateSpec(users=users, sessions=sessions, start=date(2024, 1, 1))

    def write() -> int:
        return sum(sum(generate(Path(folder) / f, spec, format=f).values()) for f in FORMATS)

    seconds, rows = timed(write)
    return Figure("generate", rows, seconds)


def measure_load(folder: str, kind: str, memory: str) -> Figure:
    """Load one format into a workspace of its own."""
    root = Path(folder) / f"workspace-{kind}"
    root.mkdir()
    settings = f'[engine]\nmemory_limit = "{memory}"\n'
    (root / "playhead.toml").write_text(settings, encoding="utf-8")
    with Workspace.create(root) as workspace:
        seconds, report = timed(lambda: workspace.load(Path(folder) / kind))
        report.check()
        for table in report.tables:
            kept = table.outside + table.quarantined + sum(table.dropped.values()) + table.written
            if table.read != kept:
                raise SystemExit(f"{table.table}: {table.read} rows read, {kept} accounted for")
        filed = [name for name, contract in TOPICS.items() if contract.file]
        clean = {topic: workspace.lake.rows(f"clean.{topic}") for topic in filed}
    for topic, rows in clean.items():
        if rows != (wanted := _distinct(Path(folder) / kind, topic)):
            raise SystemExit(f"{topic}: {rows} rows are clean, {wanted} ids are in the file")
    rows = sum(table.read for table in report.tables)
    return Figure(f"load and clean, {kind}", rows, seconds, note="each event once, all accounted")


def _distinct(folder: Path, topic: str) -> int:
    """Distinct ids in a topic's file among rows with every key, as DuckDB itself reads it."""
    contract = TOPICS[topic]
    (file,) = folder.glob(f"{contract.file}.*")
    sources = {f.name: f.source for f in contract.fields}
    keys = " AND ".join(f"{sources[name] or name} IS NOT NULL" for name in contract.not_null)
    with connect() as connection:
        found = connection.execute(
            f"SELECT count(DISTINCT {sources['event_id']}) FROM '{file}' WHERE {keys}"
        ).fetchone()
    return int(found[0]) if found else 0


def measure_duckdb(folder: str, kind: str, memory: str) -> Figure:
    """The peer: the same files read by DuckDB, and written as Parquet."""
    with connect(memory_limit=memory, temp_dir=Path(folder) / "tmp") as connection:

        def run() -> int:
            rows = 0
            for name in NAMES:
                copied = connection.execute(
                    f"COPY (FROM '{Path(folder) / kind / name}.{kind}') "
                    f"TO '{Path(folder) / 'copy.parquet'}' (FORMAT parquet, COMPRESSION zstd)"
                ).fetchone()
                rows += int(copied[0]) if copied else 0
            return rows

        seconds, rows = timed(run)
    return Figure(f"DuckDB, {kind} to Parquet", rows, seconds, note="nothing checked or cleaned")


def main(arguments: list[str] | None = None) -> None:
    """Generate, load and print; every part runs in a process of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench load", description=__doc__)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--memory", default="8GB", help="limit of each DuckDB session")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        made = alone(prepare, folder, options.sessions, options.users)
        for kind in FORMATS:
            figures.append(alone(measure_duckdb, folder, kind, options.memory))
            figures.append(alone(measure_load, folder, kind, options.memory))
    show("load", [*figures, made], as_json=options.format == "json")


if __name__ == "__main__":
    main()
