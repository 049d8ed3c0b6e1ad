"""The pages Views, one view and SQL in a real browser."""

import re
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, expect

from dashboards import Site, card, sql_address

NASTY = "<img src=x onerror=\"document.title='broken'\">"
ANSWER_MS = 40_000
"""The first query of a process waits until that has started, the first look until plans are
derived."""


def test_all_views_are_listed_and_found(page: Page) -> None:
    page.goto("/views")
    rows = card(page, "All views").locator("tbody tr")
    expect(rows).to_have_count(13, timeout=ANSWER_MS)
    page.get_by_label("Search the table").fill("picture quality")
    expect(rows).to_have_count(1)
    page.get_by_role("link", name="device_quality").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("device_quality")


def test_a_column_shows_where_it_comes_from(page: Page) -> None:
    page.goto("/views/engagement_health")
    expect(card(page, "How it stands")).to_contain_text("ready", timeout=ANSWER_MS)
    expect(card(page, "Columns")).to_contain_text("the user's country")
    lineage = card(page, "Lineage")
    expect(lineage.locator(".box.charts").first).to_contain_text("Live", timeout=ANSWER_MS)
    lineage.locator('[data-key="users.monthly_spend"]').focus()
    page.keyboard.press("Enter")
    expect(lineage).to_contain_text("users.monthly_spend makes revenue_impact, alert_level")
    expect(lineage.locator(".way.on")).to_have_count(2)


def test_rows_are_those_of_the_view(page: Page, site: Site, tmp_path: Path) -> None:
    page.goto("/views/monthly_churn?tab=rows&country=Canada")
    found = card(page, "Rows of monthly_churn")
    wanted = [row for row in site.rows("monthly_churn") if row["country"] == "Canada"]
    expect(found).to_contain_text(f"{len(wanted)} rows with these filters", timeout=ANSWER_MS)
    with page.expect_download() as saving:
        page.get_by_role("button", name="CSV of all rows").click()
    saving.value.save_as(tmp_path / "rows.csv")
    lines = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(wanted) + 1
    assert lines[0].startswith("month,country,subscription_plan")


def test_a_chart_is_kept_in_the_address(page: Page) -> None:
    page.goto("/views/monthly_churn?kind=bar&x=country&y=active_users&agg=max")
    expect(card(page, "Highest of active_users by country").locator("canvas")).to_be_visible(
        timeout=ANSWER_MS
    )
    page.get_by_label("Values (y)").click()
    page.get_by_role("option", name="churn_rate").click()
    expect(page).to_have_url(re.compile("y=churn_rate&agg=avg"))
    page.reload()
    expect(card(page, "Mean of churn_rate by country").locator("canvas")).to_be_visible(
        timeout=ANSWER_MS
    )
    page.get_by_role("link", name="Open it in the SQL box").click()
    expect(page.locator(".sql-summary")).to_contain_text("2 rows", timeout=ANSWER_MS)


def test_plans_are_derived_in_each_dialect(page: Page) -> None:
    page.goto("/views/daily_engagement?tab=plans")
    sql = page.locator(".sql pre")
    expect(sql).to_contain_text("-- owner: engagement")
    page.get_by_role("button", name="Partial").click()
    page.get_by_role("button", name="BigQuery").click()
    expect(sql).to_contain_text("FROM events")
    expect(page).to_have_url(re.compile("plan=partial&dialect=bigquery"))


def test_an_address_asks_its_sql_and_shows_it_as_a_chart(page: Page, site: Site) -> None:
    sql = "SELECT country, COUNT(*) AS users FROM users GROUP BY ALL ORDER BY users DESC"
    page.goto(sql_address(sql))
    answer = page.get_by_label("Answer", exact=True)
    expect(answer).to_contain_text("rows in", timeout=ANSWER_MS)
    first = site.query(sql)[0]
    expect(answer.locator("tbody tr").first).to_contain_text(f"{int(first['users']):,}")
    page.get_by_role("button", name="Bars").click()
    expect(answer.locator("canvas")).to_be_visible()


def test_sql_is_written_asked_refused_and_explained(page: Page) -> None:
    page.goto("/sql")
    editor = page.locator(".cm-content")
    expect(editor).to_have_attribute("aria-label", "SQL")
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.type("SELECT nothing_like_it\nFROM ")
    page.get_by_role("button", name="Insert users").click()
    expect(editor).to_contain_text("FROM users")
    page.keyboard.press("Control+Enter")
    failed = page.locator(".sql-failed")
    expect(failed).to_contain_text("an error in line 1", timeout=ANSWER_MS)
    expect(page.locator(".cm-line.sql-wrong")).to_have_count(1)
    page.goto(sql_address("EXPLAIN SELECT sessions FROM daily_engagement"))
    answer = page.get_by_label("Answer", exact=True)
    expect(answer).to_contain_text("daily_engagement", timeout=ANSWER_MS)
    expect(answer).to_contain_text("batch: loads to 1")
    page.goto(sql_address("DELETE FROM users"))
    expect(failed).to_contain_text("one SELECT", timeout=ANSWER_MS)


def test_a_query_is_cancelled(page: Page) -> None:
    endless = "SELECT SUM(a.range * b.range) FROM range(100000000) AS a, range(100000000) AS b"
    page.goto(sql_address(endless))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".sql-failed")).to_contain_text("cancelled", timeout=ANSWER_MS)
    expect(page.get_by_role("button", name="Run")).to_be_enabled()


def test_names_and_values_of_a_query_are_text(page: Page) -> None:
    quoted = NASTY.replace("'", "''")
    alias = ":" + NASTY.replace('"', '""')
    page.goto(sql_address(f"""SELECT '{quoted}' AS "{alias}", 1 AS ":format" """))
    expect(page.locator(".sql-summary")).to_contain_text("1 row", timeout=ANSWER_MS)
    expect(page.locator("tbody td").first).to_have_text(NASTY)
    page.get_by_role("button", name="Bars").click()
    expect(page.locator(".sql-answer canvas")).to_be_visible()
    page.goto(f"/views/{quote('<img src=x>', safe='')}")
    expect(page.get_by_text("There is no view")).to_be_visible()
    expect(page.locator("img[src=x]")).to_have_count(0)


def test_a_phone_reads_it_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/views/engagement_health", "/sql", "/views/monthly_churn?tab=chart"):
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, path
