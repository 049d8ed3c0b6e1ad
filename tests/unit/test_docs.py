"""The docs keep up with the code: every setting, link and workspace file is where they say."""

import re
from pathlib import Path

import pytest

from playhead.config import SECTIONS, TEMPLATE

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]
    assert not [link for link in local if not (page.parent / link).exists()]


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for section, make in SECTIONS.items():
        for key, default in vars(make()).items():
            assert f"`{section}.{key}`" in page
            assert f"PLAYHEAD_{section}_{key}".upper() in page
            shown = (default or ("[]",))[0] if isinstance(default, tuple) else default
            assert f"# {key} = " in TEMPLATE
            assert str(shown) in TEMPLATE


def test_the_readme_names_both_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first_screen = text[:2_500]
    assert "make demo" in first_screen
    assert "make test" in first_screen
