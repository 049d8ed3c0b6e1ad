"""The page History in a real browser: right numbers, months and their days, periods compared."""

import csv
import re
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from dashboards import Site, card
from playhead.dashboard.filters import earlier
from playhead.dashboard.pages.history.months import month_name

CARDS = (
    "Monthly users", "Churn", "Came back", "Watch time", "Sessions", "Mean rating",
    "Watch time by month", "Monthly active users", "Active users by plan",
    "Active users by country", "Churn by month", "Churned users", "Retention", "Cohorts",
    "Genres by month", "Ratings by genre", "Titles",
)  # fmt: skip
_FIRST_MS = 20_000
"""The first answers of a process read the states of all history."""

_IS_THERE = """() => {
  const place = document.querySelector(
    'section.card[aria-label="Watch time by month"] .nicegui-echart');
  return place && getElement(parseInt(place.id.slice(1)))?.chart?.getOption();
}"""
_BAR = """name => {
  const chart = getElement(parseInt(document.querySelector(
    'section.card[aria-label="Watch time by month"] .nicegui-echart').id.slice(1))).chart;
  return chart.convertToPixel({xAxisIndex: 0, yAxisIndex: 0}, [name, 1]);
}"""


def _newest_full(site: Site) -> datetime:
    """The newest month of the history."""
    rows = site.query(
        "SELECT MAX(month) AS month FROM title_performance "
        "WHERE month < (SELECT MAX(month) FROM title_performance)"
    )
    return datetime.fromisoformat(rows[0]["month"][:10])


def _is_drawn(page: Page, title: str) -> None:
    expect(card(page, title).locator("canvas").first).to_be_visible(timeout=_FIRST_MS)


def test_every_card_has_the_numbers_of_its_view(page: Page, site: Site) -> None:
    page.goto("/history")
    for title in CARDS:
        shown = card(page, title)
        expect(shown.locator("canvas, table, .figure").first).to_be_visible(timeout=_FIRST_MS)
    expect(page.locator(".skeleton")).to_have_count(0)
    expect(page.locator(".message")).to_have_count(0)
    expect(page.locator(".card-note.stale")).to_have_count(0, timeout=_FIRST_MS)
    active = site.query(
        "SELECT monthly_active_users AS n FROM monthly_active_users "
        f"WHERE MAKE_DATE(watch_year, watch_month, 1) = DATE '{_newest_full(site):%Y-%m-%d}'"
    )
    figure = card(page, "Monthly users").locator(".figure")
    expect(figure).to_have_text(f"{int(active[0]['n']):,}", timeout=_FIRST_MS)
    titles = site.query(
        "SELECT ANY_VALUE(title) AS title, SUM(sessions) AS n FROM title_performance "
        "GROUP BY movie_id ORDER BY n DESC, movie_id LIMIT 1"
    )
    cells = card(page, "Titles").locator("tbody tr").first.locator("td")
    expect(cells.first).to_have_text(titles[0]["title"], timeout=_FIRST_MS)
    expect(cells.nth(3)).to_have_text(f"{int(titles[0]['n']):,}")


def test_a_click_on_a_month_shows_its_days_and_back_leads_back(page: Page, site: Site) -> None:
    month = _newest_full(site)
    after = earlier(month, -1)
    page.goto("/history")
    months = card(page, "Watch time by month")
    _is_drawn(page, "Watch time by month")
    months.get_by_role("button", name="Device").click()
    page.wait_for_url(re.compile("by=device"))
    _is_drawn(page, "Watch time by month")
    page.wait_for_function(_IS_THERE)
    x, y = page.evaluate(_BAR, month_name(month))
    months.locator("canvas").first.click(position={"x": x, "y": y - 2})
    _is_drawn(page, "Watch time by day")
    told = parse_qs(urlsplit(page.url).query)
    assert told == {
        "since": [f"{month.isoformat()}Z"], "until": [f"{after.isoformat()}Z"], "by": ["device"],
    }  # fmt: skip
    total = site.query(
        f"SELECT SUM(sessions) AS n FROM daily_engagement WHERE day >= TIMESTAMP '{month}' "
        f"AND day < TIMESTAMP '{after}'"
    )
    figure = card(page, "Sessions").locator(".figure")
    expect(figure).to_have_text(f"{int(total[0]['n']):,}", timeout=_FIRST_MS)
    expect(page.get_by_role("link", name=month_name(earlier(month, 1)))).to_be_visible()
    page.go_back()
    _is_drawn(page, "Watch time by month")


def test_a_range_of_ones_own_is_kept_in_the_address_and_compared(page: Page, site: Site) -> None:
    month = _newest_full(site)
    page.goto("/history")
    page.locator(".filter.time").click()
    page.get_by_role("option", name="Custom range").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("From").fill(f"{month:%Y-%m-%dT00:00}")
    dialog.get_by_label("To, not included").fill(f"{month:%Y-%m-%dT00:00}")
    dialog.get_by_role("button", name="Show").click()
    expect(dialog.get_by_role("alert")).to_have_text("The end is not after the start.")
    dialog.get_by_label("To, not included").fill(f"{earlier(month, -1):%Y-%m-%dT00:00}")
    dialog.get_by_role("button", name="Show").click()
    page.wait_for_url(re.compile(f"since={month:%Y-%m-%d}"))
    page.get_by_text("Compare with the time before").click()
    page.wait_for_url(re.compile("compare=before"))
    small = card(page, "Sessions").locator(".small")
    expect(small).to_contain_text("before", timeout=_FIRST_MS)
    page.reload()
    expect(page.locator(".filter.time")).to_contain_text(f"{month:%Y-%m-%d} to")
    expect(small).to_contain_text("before", timeout=_FIRST_MS)


def test_titles_are_searched_and_saved(page: Page, tmp_path: Path) -> None:
    page.goto("/history")
    titles = card(page, "Titles")
    expect(titles.locator("tbody tr").first).to_be_visible(timeout=_FIRST_MS)
    name = titles.locator("tbody tr").nth(3).locator("td").first.inner_text()
    titles.get_by_placeholder("Search").fill(name)
    expect(titles.locator("tbody tr").first.locator("td").first).to_have_text(name)
    titles.get_by_role("button", name="More of Titles").click()
    with page.expect_download() as download:
        page.get_by_text("Save as CSV").click()
    download.value.save_as(tmp_path / "titles.csv")
    with (tmp_path / "titles.csv").open() as file:
        assert name in {row["title"] for row in csv.DictReader(file)}


def test_it_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/history")
    _is_drawn(page, "Cohorts")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
