"""Servers of the lake or of the event log that are away: it is said so, and waited for."""

import threading
from pathlib import Path
from typing import Any

import pytest

from layers import Running, send, watches, workspace
from playhead.api.problems import answer_to
from playhead.assemble import Workspace
from playhead.errors import LakeAwayError, LakeError, LogAwayError
from playhead.lake.reaching import is_store_away, unusable
from playhead.platform import batch as batch_part
from playhead.platform.batch import BatchPart
from playhead.platform.speed import run_speed

AWAY = OSError(
    "When reading information for key 'a' in bucket 'lake': AWS Error NETWORK_CONNECTION during "
    "HeadObject operation: curlCode: 7, Could not connect to server"
)


def test_a_store_that_is_away_is_no_damage() -> None:
    error = unusable("raw.playback: cannot be read", AWAY, "Restore it from a backup.")
    assert isinstance(error, LakeAwayError)
    assert error.retryable
    assert "backup" not in str(error)
    assert answer_to(error).status_code == 503


@pytest.mark.parametrize(
    "found",
    [FileNotFoundError(2, "No such file"), OSError("AWS Error ACCESS_DENIED"), ValueError()],
)
def test_what_is_missing_or_refused_is_told_as_it_is(found: Exception) -> None:
    assert not is_store_away(found)
    error = unusable("raw.playback: cannot be read", found, "Restore it from a backup.")
    assert type(error) is LakeError
    assert error.hint == "Restore it from a backup."


def test_a_log_that_goes_away_while_an_epoch_is_sealed_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise LogAwayError("nobody answers")

    with workspace(tmp_path, "counts") as opened:
        send(opened, watches(3))
        with Running(opened) as layer:
            layer.step()
            with monkeypatch.context() as patch:
                patch.setattr(opened.log, "read", refuse)
                with pytest.raises(LogAwayError, match="nobody answers"):
                    layer.seal()
            layer.seal()
        opened.batch()
        assert opened.view("counts").to_arrow().to_pylist()[0]["events"] == 3


def test_the_speed_part_waits_for_the_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, told = threading.Event(), []

    def refuse(*_: object, **__: object) -> None:
        raise LakeAwayError("the store is away")

    def beat(health: str, **_: float) -> None:
        told.append(health)
        stop.set()

    workspace(tmp_path, "counts").close()
    monkeypatch.setattr(Workspace, "speed", refuse)
    run_speed(tmp_path, stop, beat)
    assert told == ["waits: the store is away"]


def test_the_batch_part_tries_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, told = threading.Event(), []

    def refuse(_: Path) -> dict[str, int]:
        raise LakeAwayError("the catalog is away")

    def beat(health: str) -> None:
        told.append(health)
        if health.startswith("failed"):
            stop.set()

    workspace(tmp_path, "counts").close()
    monkeypatch.setattr(batch_part, "loads_of", refuse)
    monkeypatch.setattr(batch_part, "LOOK_S", 0.01)
    assert BatchPart(tmp_path, beat).run(stop)
    assert told[-1] == "failed: the catalog is away"
