"""The part "speed" shows that it works while a cluster works for it."""

import threading
from pathlib import Path
from typing import Any

from layers import send, watches, workspace
from playhead.config import Settings, SpeedSettings
from playhead.platform.parts import SILENCE, SPARK_SILENCE, standard_parts
from playhead.platform.speed import _Progress
from playhead.speed.layer import Step


def test_the_last_words_are_said_again(tmp_path: Path) -> None:
    told: list[tuple[str, dict[str, float]]] = []

    def beat(health: str, **figures: Any) -> None:
        told.append((health, figures))

    with workspace(tmp_path / "w", "counts") as opened:
        progress = _Progress(opened, threading.Event(), beat)
        progress.work()
        assert told.pop() == ("works on the first events", {})
        send(opened, watches(7))
        progress.step(Step(events=5))
        progress.work()
    said, again = told
    assert said == again
    assert said[1]["lag"] == 7
    assert "7 wait" in said[0]


def test_spark_may_be_silent_for_longer(tmp_path: Path) -> None:
    def silence(engine: str) -> Any:
        settings = Settings(speed=SpeedSettings(engine=engine, trigger_ms=0))
        (speed,) = (p for p in standard_parts(tmp_path, settings) if p.name == "speed")
        return speed.silence

    assert silence("duckdb") == SILENCE
    assert silence("spark") == SPARK_SILENCE > SILENCE
