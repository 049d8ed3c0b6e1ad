"""One running platform and one browser for the tests of all pages."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from dashboards import BROWSER, FLAGS, Site, Told, fill, recent, running, wait_until


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with four months of history; nothing runs on it. Copy it before a change."""
    folder = tmp_path_factory.mktemp("dashboard")
    fill(folder / "w", folder / "data")
    return folder / "w"


@pytest.fixture(scope="package")
def site(filled: Path) -> Iterator[Site]:
    """The platform with that history, and an hour of live events; one event was refused.

    It runs while the tests of this folder do, and takes no time from others.
    """
    with running(filled) as started:
        events = recent()
        assert started.send(*events)["accepted"] == len(events)
        assert started.send({"event_type": "watch"})["rejected"]
        wait_until(lambda: _counted(started) >= len(events), 30)
        yield started


def _counted(site: Site) -> int:
    return sum(int(row["sessions"]) for row in site.rows("active_viewers", "since=2026-01-01"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module: while it lives, its event loop runs, and no other may be started."""
    if not BROWSER:
        pytest.skip("missing: a browser (chromium)")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def told() -> Told:
    return Told([], [])


@pytest.fixture
def page(browser: Browser, site: Site, told: Told) -> Iterator[Page]:
    """A page of the site, 1280 pixels wide: `page.goto("/live")`.

    What it tells its console as an error, and what it asks of other hosts, fails the test.
    """
    size = {"width": 1280, "height": 900}
    context = browser.new_context(base_url=site.url, viewport=size, accept_downloads=True)
    opened = context.new_page()
    told.listen(opened)
    yield opened
    context.close()
    assert told.outside == []
    assert told.errors == []
