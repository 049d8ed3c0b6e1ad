"""What all tests share: Hypothesis profiles, the strict switch, the real data set."""

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
REAL_DATA = ROOT.parent / "shared" / "data" / "netflix-2025"
REAL_FILES = ("users", "movies", "watch_history", "reviews", "search_logs", "recommendation_logs")

pytest_plugins = ["cluster_servers"]

STRICT = "PLAYHEAD_TEST_STRICT"
MISSING = "missing:"

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

_SLOW_MACHINE = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "default", max_examples=20, deadline=None, suppress_health_check=_SLOW_MACHINE
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=1_000)
# Tests start hundreds of processes: each would compile all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# The dashboards' libraries take a second to import: tests that look at them say where.
os.environ["PLAYHEAD_DASHBOARD_ADDRESS"] = ""

# Java compiles thoroughly what runs for long: Spark's drivers of tests end before that pays.
os.environ["SPARK_SUBMIT_OPTS"] = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"

settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default")
)


def pytest_configure() -> None:
    """Let processes that tests start be interrupted, even where the tests run in the background."""
    # A shell without job control has what it puts into the background ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In strict mode, a test skipped because a part is missing has failed."""
    return _judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself."""
    return _judged((yield))


def _judged(report: Report) -> Report:
    reason = _skip_reason(report)
    if reason.startswith(MISSING) and os.environ.get(STRICT, "") not in ("", "0"):
        report.outcome = "failed"
        report.longrepr = f"{STRICT} is set, and a part of this test is {reason}"
    return report


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if not report.skipped or hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
        return ""
    return str(report.longrepr[2]).removeprefix("Skipped: ")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real six files; skips where it is not there, even in strict mode."""
    absent = [name for name in REAL_FILES if not (REAL_DATA / f"{name}.csv").exists()]
    if absent:
        pytest.skip("the real data set is not beside the repository (../shared/data/netflix-2025)")
    return REAL_DATA
