"""`playhead plan`: its arithmetic, what it takes, and the page that is made from it."""

import json
import math
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from playhead.cli import app
from playhead.cli.plan import duration
from playhead.errors import SettingError
from playhead.ops import figures
from playhead.ops.capacity import Load, plan
from scaling_page import PAGE, PLACE, RATES, written

ROOT = Path(__file__).parents[2]
PAGE_TEXT = PAGE.read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["plan", *words], env={"COLUMNS": "300"})
    return done.exit_code, done.stdout, done.stderr


# -- arithmetic --------------------------------------------------------------------------


def test_what_50_000_events_a_second_need() -> None:
    made = plan(Load(50_000))
    kept = 50_000 * 350 / 6.1 * 86_400 * 3
    taken = 1 / figures.GATEWAY.value + 1 / figures.PRODUCER.value
    assert made.value("gateway", "cores") == math.ceil(150_000 * taken / 0.6)
    assert made.value("Kafka", "brokers") == 3
    assert made.value("Kafka", "disk a day") == pytest.approx(kept)
    assert made.value("Kafka", "disk") == pytest.approx(kept * 7 / 0.8)
    assert made.value("speed", "executor cores") == math.ceil(150_000 / (11_474 * 0.6))
    assert made.value("network", "into gateways") == 150_000 * 350 * 8
    assert made.value("lake", "history") == pytest.approx(50_000 * 95.4 * 730 * 86_400)


def test_totals_are_the_sums_of_the_parts() -> None:
    made = plan(Load(123_456))
    for what in ("cores", "memory"):
        parts = [line.value for line in made.lines if line.what == what and line.part != "total"]
        assert made.value("total", what) == pytest.approx(sum(parts))
        assert len(parts) == 5


LOADS = st.builds(
    Load,
    st.floats(0.01, 1e8),
    st.floats(1, 50),
    st.floats(1, 1e5),
    st.timedeltas(timedelta(hours=1), timedelta(days=400)),
    st.timedeltas(timedelta(hours=1), timedelta(days=4000)),
    st.integers(0, 10**10),
    st.integers(1, 9),
    st.timedeltas(timedelta(minutes=1), timedelta(days=30)),
)


@given(LOADS)
def test_every_load_has_a_whole_plan(load: Load) -> None:
    made = plan(load)
    brokers, partitions = made.value("Kafka", "brokers"), made.value("Kafka", "partitions")
    assert brokers >= load.replication
    assert partitions >= made.value("speed", "executor cores")
    assert partitions % brokers == 0
    assert all(line.value >= 0 and line.arithmetic and line.shown for line in made.lines)
    assert made.fits_one_machine == made.verdict.startswith("One machine is enough")


@given(LOADS, st.floats(1, 100))
def test_more_events_never_need_less(load: Load, times: float) -> None:
    more = plan(replace(load, events_per_second=load.events_per_second * times))
    for line in plan(load).lines:
        # More brokers share what is kept; more cores do all of history sooner.
        if line.what not in ("disk a broker", "all of history anew"):
            assert more.value(line.part, line.what) >= line.value * (1 - 1e-9)


def test_one_machine_is_enough_within_every_limit_that_was_measured() -> None:
    small = Load(1_000, 3, history=timedelta(days=90))
    assert "within 199,378 events/s" in plan(small).verdict
    for more, told in (
        (replace(small, peak_factor=200), "a peak of 200,000 events/s above 199,378"),
        (replace(small, history=timedelta(days=36_500)), "a lake of 301 TB above 16 TB"),
        (replace(small, batch_every=timedelta(minutes=5)), "minutes above 2.5 minutes"),
    ):
        made = plan(more)
        assert not made.fits_one_machine
        assert told in made.verdict


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("events_per_second", 0),
        ("events_per_second", math.nan),
        ("events_per_second", math.inf),
        ("peak_factor", 0.9),
        ("event_bytes", -1),
        ("retention", timedelta(0)),
        ("history", timedelta(days=-1)),
        ("users", -1),
        ("replication", 0),
        ("batch_every", timedelta(0)),
    ],
)
def test_a_load_that_cannot_be_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"^{field} = "):
        Load(**{"events_per_second": 1, field: value})  # type: ignore[arg-type]


# -- figures -----------------------------------------------------------------------------


def test_a_figure_of_the_benchmarks_stands_there() -> None:
    for name, figure in figures.FIGURES.items():
        assert figure.value > 0, name
        assert figure.source, name
        if figure.source.startswith("docs/benchmarks.md"):
            section = re.match(r"docs/benchmarks\.md, ([a-z ]+):", figure.source)
            assert section is not None, name
            assert f"## {section[1]}\n" in BENCHMARKS, name
    for said in ("551,141", "57,479", "199,378", "483,250", "22 million a second"):
        assert said in BENCHMARKS


def test_every_figure_is_listed() -> None:
    made = {id(value) for value in vars(figures).values() if isinstance(value, figures.Measured)}
    assert made == {id(value) for value in figures.FIGURES.values()}


# -- the command -------------------------------------------------------------------------


def test_the_command_shows_the_verdict_the_arithmetic_and_the_figures() -> None:
    status, out, _ = run("--events-per-second", "50000")
    assert status == 0
    assert "150,000 ÷ (11,474 × 0.6)" in out
    assert "More than one machine" in out
    for name in figures.FIGURES:
        assert name in out


def test_json_has_numbers_and_units() -> None:
    status, out, _ = run("--events-per-second", "1000", "--retention", "36h", "--format", "json")
    told = json.loads(out)
    assert status == 0
    assert told["one_machine_is_enough"] is True
    assert told["load"]["retention_s"] == 129_600
    assert {"part": "Kafka", "what": "brokers", "value": 3, "unit": ""}.items() <= next(
        line for line in told["lines"] if line["what"] == "brokers"
    ).items()
    assert told["figures"]["broker"]["basis"] == "measured without Playhead"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--events-per-second", "0"),
        ("--events-per-second", "-5"),
        ("--events-per-second", "many"),
        ("--events-per-second", "inf"),
        ("--peak-factor", "0.5"),
        ("--event-bytes", "0"),
        ("--retention", "7"),
        ("--retention", "-7d"),
        ("--history", "0y"),
        ("--history", "999999999y"),
        ("--batch-every", "soon"),
        ("--users", "-1"),
        ("--replication", "0"),
    ],
)
def test_bad_input_is_refused_and_the_option_named(option: str, value: str) -> None:
    status, out, told = run("--events-per-second=1", f"{option}={value}")
    assert (status, out) == (2, "")
    assert option in told


def test_the_rate_has_to_be_said() -> None:
    status, _, told = run()
    assert (status, "--events-per-second" in told) == (2, True)


def test_durations() -> None:
    assert duration("90m") == timedelta(minutes=90)
    assert duration(" 1.5 d ") == timedelta(hours=36)
    assert duration("2y") == timedelta(days=730)
    assert duration("8w") == timedelta(days=56)
    for text in ("", "d", "7", "7s", "٧d", "1e3d", "7 d 2h"):
        with pytest.raises(typer.BadParameter, match="no duration"):
            duration(text)


# -- the page ----------------------------------------------------------------------------


def test_the_page_is_what_the_command_says() -> None:
    assert written(PAGE_TEXT) == PAGE_TEXT, "run `python tests/scaling_page.py`"


def test_the_page_has_every_table() -> None:
    tables = [name for _, name, _ in PLACE.findall(PAGE_TEXT)]
    rates = [f"--events-per-second {rate}" for rate in RATES]
    assert tables == ["overview", "figures", *rates]
