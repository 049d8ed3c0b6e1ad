"""Only one speed layer writes to a lake: another one is told so, and nothing is counted twice."""

from pathlib import Path

import pytest

from layers import Running, send, watches, workspace
from playhead.errors import StateError


def test_an_epoch_that_another_layer_sealed_is_no_epoch_of_this_one(tmp_path: Path) -> None:
    with workspace(tmp_path / "a", "counts") as one, workspace(tmp_path / "b", "counts") as two:
        two.__dict__.update(log=one.log, lake=one.lake)
        send(one, watches(3))
        with Running(one) as first, Running(two) as second:
            first.step()
            send(one, watches(2, start=3))
            second.step()
            assert first.seal() == 1
            with pytest.raises(StateError, match="another speed layer has sealed it"):
                second.seal()
            first.step()
            assert first.seal() == 2
        for name in ("log", "lake"):
            two.__dict__.pop(name)
        one.batch()
        assert one.view("counts").to_arrow().to_pylist()[0]["events"] == 5


def test_an_epoch_that_this_layer_sealed_before_it_died_is_its_own(tmp_path: Path) -> None:
    with workspace(tmp_path, "counts") as opened:
        send(opened, watches(3))
        with Running(opened) as layer:
            layer.step()
            epoch = opened.state.cut()
            assert epoch is not None
            layer._sealer._append(epoch, "playback", opened.state.range_of(epoch)["playback"])
        with Running(opened) as layer:
            assert layer.seal() is None
        opened.batch()
        assert opened.view("counts").to_arrow().to_pylist()[0]["events"] == 3
