"""Login by a key, an empty workspace, and a platform that does not run, in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from dashboards import Told, alone, card
from playhead.assemble import Workspace
from playhead.keys import Key, KeyRing


@pytest.fixture(scope="module")
def locked(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A workspace with keys, whose platform does not run, and the dashboards' address."""
    workspace = tmp_path_factory.mktemp("locked") / "w"
    shutil.copytree(filled, workspace, ignore=shutil.ignore_patterns("run"))
    KeyRing(workspace / "keys.json").create("writer", ["write"])
    with alone(workspace) as url:
        yield workspace, url


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 900})
    yield made
    made.close()


def made_key(locked: tuple[Path, str], *scopes: str) -> tuple[Key, str]:
    ring = KeyRing(locked[0] / "keys.json")
    return ring.create("test", scopes or ("read",))  # type: ignore[arg-type]


def enter(page: Page, url: str, key: str) -> None:
    page.goto(f"{url}/live?last=24h")
    page.get_by_label("Key with scope read").fill(key)
    page.get_by_role("button", name="Log in").click()


def test_a_key_opens_the_page_that_was_asked_for(
    context: BrowserContext, locked: tuple[Path, str]
) -> None:
    url, page = locked[1], context.new_page()
    key, secret = made_key(locked)
    for wrong, told in (("ph_wrong", "unknown or was revoked"), (secret[:-1], "unknown")):
        enter(page, url, wrong)
        expect(page.get_by_role("alert")).to_contain_text(told)
    enter(page, url, secret)
    expect(page).to_have_url(f"{url}/live?last=24h")
    expect(page.get_by_role("heading", name="Live")).to_be_visible()
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert secret not in cookie["value"]
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{url}/login")
    page.goto(f"{url}/live")
    expect(page.get_by_label("Key with scope read")).to_be_visible()
    assert key.is_active


def test_a_key_that_may_only_write_opens_nothing(
    context: BrowserContext, locked: tuple[Path, str]
) -> None:
    page = context.new_page()
    enter(page, locked[1], made_key(locked, "write")[1])
    expect(page.get_by_role("alert")).to_contain_text("has no scope read")


def test_a_revoked_key_ends_open_pages(context: BrowserContext, locked: tuple[Path, str]) -> None:
    url, page = locked[1], context.new_page()
    key, secret = made_key(locked)
    enter(page, url, secret)
    expect(page.get_by_role("heading", name="Live")).to_be_visible()
    KeyRing(locked[0] / "keys.json").revoke(key.id)
    # The socket closes, and the page finds itself at the login when it comes again.
    expect(page.get_by_label("Key with scope read")).to_be_visible(timeout=30_000)


def test_without_a_platform_the_numbers_stand_still_and_it_is_told(
    context: BrowserContext, locked: tuple[Path, str]
) -> None:
    page = context.new_page()
    enter(page, locked[1], made_key(locked)[1])
    expect(page.locator(".banner.platform")).to_contain_text("The platform does not run")
    expect(page.locator(".banner.platform")).to_contain_text("playhead up")
    page.goto(f"{locked[1]}/history")
    expect(page.locator("canvas").first).to_be_visible(timeout=20_000)


def test_an_empty_workspace_says_what_to_do(context: BrowserContext, tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "w"):
        pass
    told, page = Told([], []), context.new_page()
    told.listen(page)
    with alone(tmp_path / "w") as url:
        for path in ("/live", "/history", "/platform", "/quality", "/views", "/sql"):
            page.goto(f"{url}{path}")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            expect(page.locator(".skeleton")).to_have_count(0, timeout=20_000)
            if path == "/live":
                expect(card(page, "Viewers and sessions")).to_contain_text("playhead load")
        page.goto(f"{url}/nothing")
        page.goto(f"{url}/views/nothing")
        expect(page.locator("body")).to_contain_text("nothing")
    assert [error for error in told.errors if "404" not in error and "closed" not in error] == []
    assert told.outside == []
