"""The pages Platform and Data quality in a real browser, over a platform that runs."""

import csv
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dashboards import Site, card, recent
from playhead.assemble import Workspace

PLATFORM = (
    "Flow of events", "Events in", "Lag", "Freshness p99", "Refused", "Disk free", "Uptime",
    "Events a second", "Freshness", "Refused, repeated and late", "Parts", "Quality gates",
    "Coverage", "Dead letters by reason", "Durations of batch runs", "Batch runs", "Storage",
    "Storage per table", "Topics",
)  # fmt: skip
QUALITY = (
    "Tables loaded", "Rows read", "At fault", "Rows at fault by load", "Repeated keys by load",
    "Empty values by load", "Emptiest columns", "Columns by fault", "Quality gates", "Loads",
)  # fmt: skip
_FIRST_MS = 20_000
"""The first look at a flow reads every table's metadata."""


@pytest.mark.parametrize(("path", "titles"), [("/platform", PLATFORM), ("/quality", QUALITY)])
def test_every_card_has_something_to_show(page: Page, path: str, titles: tuple[str, ...]) -> None:
    page.goto(path)
    for title in titles:
        shown = card(page, title)
        expect(shown.locator("canvas, table, svg.flow, .figure").first).to_be_attached(
            timeout=_FIRST_MS
        )
        expect(shown.locator(".message-failed")).to_have_count(0)
    expect(page.locator(".skeleton")).to_have_count(0, timeout=_FIRST_MS)


def test_rates_change_in_place_while_events_come(page: Page, site: Site) -> None:
    page.goto("/platform")
    picture = page.locator("svg.flow")
    rate = picture.locator('[data-t="clients>gateway"]')
    expect(rate).to_have_text("0 /s", timeout=_FIRST_MS)
    picture.evaluate("svg => { svg.dataset.made = 'once' }")
    site.send(*recent(200, minutes=1))
    expect(rate).not_to_have_text("0 /s")
    expect(picture.locator('[data-c="clients>gateway"]')).not_to_have_class("arrow speed0")
    assert picture.evaluate("svg => svg.dataset.made") == "once"
    page.get_by_text("The same in words").click()
    expect(page.locator(".flow-words")).to_contain_text("gateway to dead letters")


def test_counts_are_those_of_the_log_and_the_lake(page: Page, site: Site) -> None:
    page.goto("/platform")
    with Workspace(site.workspace) as opened:
        held = sum(opened.log.end_offsets("playback").values())
        rows = opened.lake.snapshot("clean.playback").rows
    topic = card(page, "Topics").locator("tr", has_text="playback").locator("td")
    expect(topic.nth(6)).to_have_text(f"{held:,}")
    tables = card(page, "Storage per table")
    tables.get_by_placeholder("Search").fill("clean.playback")
    cells = tables.locator("tbody tr").first.locator("td")
    expect(cells.first).to_have_text("clean.playback")
    expect(cells.nth(2)).to_have_text(f"{rows:,}")


def test_a_dead_letter_is_shown_as_text(page: Page) -> None:
    page.goto("/platform")
    letters = card(page, "Dead letters by reason")
    letters.get_by_role("button", name="Show more").first.click()
    expect(page.locator(".q-dialog .body-text").first).to_contain_text('"event_type"')


def test_a_batch_run_tells_its_stages(page: Page) -> None:
    page.goto("/platform")
    card(page, "Batch runs").get_by_role("button", name="Show more").first.click()
    expect(page.locator(".q-dialog canvas")).to_be_visible()
    expect(page.locator(".q-dialog tbody")).to_contain_text("active_viewers")


def test_tables_and_pictures_are_saved(page: Page) -> None:
    page.goto("/platform")
    for title, heading in (("Topics", "topic"), ("Coverage", "view"), ("Quality gates", "gate")):
        expect(card(page, title).locator("table")).to_be_visible(timeout=_FIRST_MS)
        rows = list(csv.reader(_saved(page, title, "Save as CSV").read_text().splitlines()))
        assert rows[0][0] == heading
        assert len(rows) > 5
    for title in ("Flow of events", "Storage"):
        assert _saved(page, title, "Save as PNG").read_bytes().startswith(b"\x89PNG")


def test_the_report_is_that_of_the_relation(page: Page, site: Site) -> None:
    page.goto("/quality")
    (found,) = site.query(
        "SELECT SUM(value) AS rows FROM quality_report "
        "WHERE metric = 'rows' AND \"table\" = 'playback'"
    )
    loads = card(page, "Loads").locator("tr", has_text="playback").locator("td")
    expect(loads.nth(4)).to_have_text(f"{int(found['rows']):,}")
    card(page, "Loads").get_by_label("More of Loads").click()
    page.get_by_text("Show SQL").click()
    expect(page.locator(".q-dialog")).to_contain_text("FROM quality_report")


@pytest.mark.parametrize("path", ["/platform", "/quality"])
def test_it_fits_a_phone(page: Page, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(path)
    expect(page.locator("canvas").first).to_be_attached()
    expect(page.locator(".skeleton")).to_have_count(0, timeout=_FIRST_MS)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def _saved(page: Page, title: str, act: str) -> Path:
    card(page, title).get_by_label(f"More of {title}").click()
    with page.expect_download() as download:
        page.get_by_text(act).click()
    expect(page.get_by_text(act)).to_have_count(0)
    return download.value.path()
