"""verify and rebuild: what is wrong on stdout, the exit status by it, and whole afterwards."""

import json
import shutil
from pathlib import Path

from cli_runner import run

from playhead.assemble import Workspace
from playhead.lock import RoleLock


def test_a_sound_workspace_is_clean(workspace: Path) -> None:
    done = run("-w", workspace, "verify")
    assert (done.status, done.text) == (0, ""), done.text
    assert "clean: looked at" in done.err
    quick = run("-w", workspace, "verify", "--quick", "--json")
    assert quick.status == 0
    report = json.loads(quick.text)
    assert (report["clean"], report["findings"]) == (True, [])


def _own(tmp_path: Path, data: Path) -> Path:
    """A workspace whose files are nobody else's: copies of a lake share theirs."""
    own = tmp_path / "own"
    for command in (("init",), ("load", data), ("batch",)):
        assert run("-w", own, *command).status == 0
    return own


def test_damage_is_told_and_mended(tmp_path: Path, data: Path) -> None:
    own = _own(tmp_path, data)
    shown = run("-w", own, "show", "monthly_engagement", "-f", "json").text
    with Workspace(own) as opened:
        (name,) = [t for t in opened.lake.tables() if t.startswith("state.monthly_engagement")]
        damaged = Path(opened.lake.snapshot(name).files[0].path)
    damaged.write_bytes(damaged.read_bytes()[:-5])
    # What was computed before the damage is under a checksum of its own, and as good as ever.
    assert run("-w", own, "show", "monthly_engagement", "-f", "json").text == shown
    shutil.rmtree(own / "cache")
    asked = run("-w", own, "show", "monthly_engagement")
    assert asked.status == 1
    assert str(damaged) in asked.err
    found = run("-w", own, "verify")
    assert found.status == 1
    assert found.text.startswith(f"error: {name}: {damaged}: has ")
    assert "-> playhead rebuild --all" in found.text
    mended = run("-w", own, "rebuild", "monthly_engagement")
    assert mended.status == 0, mended.err
    assert "monthly_engagement" in mended.text
    assert run("-w", own, "verify").status == 0
    assert run("-w", own, "show", "monthly_engagement", "-f", "json").text == shown


def test_rebuild_wants_views_or_all_and_the_workspace_for_itself(tmp_path: Path) -> None:
    run("-w", tmp_path / "w", "init")
    assert run("-w", tmp_path / "w", "rebuild").status == 2
    assert run("-w", tmp_path / "w", "rebuild", "monthly_engagement", "--all").status == 2
    unknown = run("-w", tmp_path / "w", "rebuild", "nothing_like_it")
    assert unknown.status == 1
    with RoleLock(tmp_path / "w" / "speed.lock", "speed layer"):
        busy = run("-w", tmp_path / "w", "rebuild", "--all")
    assert busy.status == 1
    assert "another speed layer runs" in busy.err
