"""Generate: a data set of any size, drawn and written, in Parquet and in CSV.

The peer, measured in the same run, is DuckDB copying the Parquet files to new ones: what writing
alone costs. The rows told are compared with those that the files hold before a figure is printed.
"""

import argparse
import tempfile
from datetime import date
from pathlib import Path

from benchmarks.measure import Figure, alone, show, timed
from playhead.engines import connect
from playhead.testing.generate import GenerateSpec, generate
from playhead.testing.generate.files import NAMES
from playhead.testing.generate.writing import Format


def measure_generate(folder: str, kind: Format, sessions: int, users: int) -> Figure:
    """One data set in one format."""
    spec = GenerateSpec(users=users, sessions=sessions, start=date(2024, 1, 1))
    seconds, rows = timed(lambda: generate(Path(folder) / kind, spec, format=kind))
    with connect() as connection:
        for name in NAMES:
            query = f"SELECT count(*) FROM '{Path(folder) / kind / name}.{kind}'"
            if connection.execute(query).fetchone() != (rows[name],):
                raise SystemExit(f"{name}.{kind} does not hold {rows[name]} rows")
    return Figure(
        f"generate, {kind}", sum(rows.values()), seconds, note="rows counted in the files"
    )


def measure_duckdb(folder: str) -> Figure:
    """The peer: the Parquet files read and written again."""
    with connect() as connection:

        def run() -> int:
            rows = 0
            for name in NAMES:
                copied = connection.execute(
                    f"COPY (FROM '{Path(folder) / 'parquet' / name}.parquet') "
                    f"TO '{Path(folder) / 'copy.parquet'}' (FORMAT parquet, COMPRESSION zstd)"
                ).fetchone()
                rows += int(copied[0]) if copied else 0
            return rows

        seconds, rows = timed(run)
    return Figure("DuckDB, Parquet copied", rows, seconds)


def main(arguments: list[str] | None = None) -> None:
    """Generate and print; every part runs in a process of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench generate", description=__doc__)
    parser.add_argument("--sessions", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        made = [
            alone(measure_generate, folder, kind, options.sessions, options.users)
            for kind in ("parquet", "csv")
        ]
        peer = alone(measure_duckdb, folder)
    show("generate", [peer, *made], as_json=options.format == "json")


if __name__ == "__main__":
    main()
