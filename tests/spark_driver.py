"""A process that runs batch runs on Spark for a test: a Spark driver cannot change its master."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from layers import workspace
from playhead.errors import PlayheadError

SMALL = {
    "spark.executor.memory": "512m",
    "spark.executor.memoryOverhead": "384m",
    "spark.executor.cores": "1",
    "spark.executor.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    "spark.sql.shuffle.partitions": "4",
    "spark.dynamicAllocation.enabled": "false",
}


class Driver:
    """Another process, which runs the batch layer of workspaces when it is told to.

    Args:
        environment: settings, beside this process's own.
    """

    def __init__(self, **environment: str) -> None:
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

    def ask(self, path: Path, *names: str, full: bool = False) -> None:
        """Have a batch run begin, over some views of `layers`."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(path), names, full]) + "\n")
        self.process.stdin.flush()

    def told(self) -> dict[str, Any]:
        """What became of it: by view, status and reason; or the error."""
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def batch(self, path: Path, *names: str, full: bool = False) -> dict[str, Any]:
        """Run the batch layer and wait for it."""
        self.ask(path, *names, full=full)
        return self.told()


def main() -> None:
    for line in sys.stdin:
        path, names, full = json.loads(line)
        (Path(path) / "spark.conf").write_text("".join(f"{k} {v}\n" for k, v in SMALL.items()))
        try:
            with workspace(Path(path), *names) as opened:
                if opened.settings.batch.engine == "spark":
                    # Kept for the runs to come: a workspace stops what it has started itself.
                    _ = opened.spark
                    opened._owns_spark = False
                runs = opened.batch(full=full).views
            told = {run.view: [run.status, run.reason] for run in runs}
        except PlayheadError as error:
            told = {"error": [error.message, error.hint or ""]}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
