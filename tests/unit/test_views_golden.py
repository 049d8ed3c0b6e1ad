"""Every built-in view's plans in every dialect, as files that a reader can check.

`UPDATE_GOLDEN=1 pytest tests/unit/test_views_golden.py` writes them anew.
"""

import os
from pathlib import Path
from typing import get_args

import pytest

from playhead.views.catalog import library
from playhead.views.dialects import DIALECTS
from playhead.views.view import Plan

GOLDEN = Path(__file__).parents[1] / "golden"
PLANS = get_args(Plan)


@pytest.mark.parametrize("name", library())
def test_plans_are_as_written_down(name: str) -> None:
    view = library()[name]
    for plan in PLANS:
        for dialect in DIALECTS:
            file = GOLDEN / f"{name}.{plan}.{dialect}.sql"
            text = view.sql(plan, dialect) + "\n"
            if os.environ.get("UPDATE_GOLDEN"):
                file.write_text(text, encoding="utf-8")
            assert file.exists(), f"{file.name} is missing: UPDATE_GOLDEN=1 writes it"
            assert text == file.read_text(encoding="utf-8"), file.name


def test_there_is_no_other_file() -> None:
    wanted = {f"{n}.{p}.{d}.sql" for n in library() for p in PLANS for d in DIALECTS}
    assert {file.name for file in GOLDEN.iterdir()} == wanted
