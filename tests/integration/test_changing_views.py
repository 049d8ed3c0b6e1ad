"""A view written while the speed layer runs: kept from then on, exact once batch has built it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from layers import send, watches
from playhead.assemble import Workspace
from playhead.engines import connect
from playhead.errors import CoverageError

SQL = "SELECT action, COUNT(*) AS n, COUNT(DISTINCT user_id) AS users FROM playback GROUP BY action"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "w") as made:
        yield made


def _same(path: Path) -> bool:
    with Workspace(path) as reader:
        keys = [("action", "ascending")]
        answer = reader.view("by_action").to_arrow().sort_by(keys)
        return answer.num_rows > 0 and answer.equals(
            reader.full("by_action").to_arrow().sort_by(keys)
        )


def test_a_view_that_is_added_while_the_speed_layer_runs(opened: Workspace) -> None:
    with connect() as connection:
        layer = opened.speed_layer(connection)
        layer.start()
        send(opened, watches(20))
        assert layer.step().events == 20
        (opened.path / "views" / "by_action.sql").write_text(SQL)
        layer.refresh()
        send(opened, watches(30, start=20))
        assert layer.step().events == 30
        with Workspace(opened.path) as reader, pytest.raises(CoverageError, match="epoch 1"):
            reader.view("by_action")
        with Workspace(opened.path) as batch:
            batch.batch()
        assert _same(opened.path)


def test_a_text_that_cannot_be_used_leaves_the_views_alone(
    opened: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    with connect() as connection:
        layer = opened.speed_layer(connection)
        layer.start()
        (opened.path / "views" / "bad.sql").write_text("SELECT MEDIAN(user_rating) FROM playback")
        layer.refresh()
        assert "views stay as they were: view bad" in caplog.text
        (opened.path / "views" / "bad.sql").unlink()
        (opened.path / "views" / "by_action.sql").write_text(SQL)
        layer.refresh()
        send(opened, watches(10))
        assert layer.step().events == 10
        assert _same(opened.path)
