"""Dashboards and alert rules: every figure that they ask for is one that Playhead exports."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from layers import load, load_dimensions, send, watches, workspace
from playhead.api.exposition import GATEWAY_FOLDER, Exposition

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "grafana"
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
YAMLS = sorted(FOLDER.rglob("*.yaml"))
PROMETHEUS_RULES = FOLDER / "prometheus" / "playhead-rules.yaml"
GRAFANA_RULES = FOLDER / "provisioning" / "alerting" / "playhead.yaml"
MONITORING = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")

GATEWAY = """
import os
from collections import Counter
from playhead.gateway.metrics import Metrics
metrics = Metrics()
metrics.accepted({"playback": 3})
metrics.rejected(Counter({"schema": 1}))
metrics.answered("/v1/events", 202, 100)
metrics.measure(1, 1)
for histogram in (metrics.request_seconds, metrics.append_seconds, metrics.group_requests):
    histogram.observe(1)
os._exit(0)
"""
"""A worker that counts something of everything, and is killed: a clean end takes gauges away."""

OF_SCRAPE = {"job", "instance"}
OF_PROMETHEUS = {"up": OF_SCRAPE}
WHOLE_SETS = {"gate", "span", "file", "unit"}
"""Labels of which the small workspace shows every value that there is."""

FUNCTIONS = {
    "absent", "changes", "clamp_min", "count", "deriv", "histogram_quantile", "increase", "max",
    "min", "rate", "sort_desc", "sum", "time", "topk", "vector",
}  # fmt: skip
GROUPING = {"by", "on", "group_left", "group_right"}
OPERATORS = {"and", "or", "offset"}
TOKEN = re.compile(
    r"""(?P<space>\s+) | (?P<text>"(?:[^"\\]|\\.)*") | (?P<range>\[[^\]]*\])
    | (?P<number>\d+(?:\.\d+)?(?:[smhdwy]\b)?) | (?P<name>[a-zA-Z_:][\w:]*)
    | (?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},])""",
    re.VERBOSE,
)

Labels = Mapping[str, set[str]]


@dataclass
class Asked:
    """What a PromQL expression asks for: selectors with their matchers, labels of groupings."""

    selectors: list[tuple[str, dict[str, tuple[str, str]]]] = field(default_factory=list)
    groupings: set[str] = field(default_factory=set)

    @property
    def metrics(self) -> set[str]:
        return {name for name, _ in self.selectors}


def tokens(expression: str) -> list[tuple[str, str]]:
    """Kind and text of each token; ranges are checked, and left out."""
    found, at = [], 0
    while at < len(expression):
        match = TOKEN.match(expression, at)
        assert match is not None, f"no PromQL from {expression[at:]!r}"
        kind, text, at = str(match.lastgroup), match[0], match.end()
        if kind == "range":
            assert re.fullmatch(r"\[(\d+[smhd]|\$__rate_interval|\$__range)\]", text), text
        elif kind != "space":
            found.append((kind, text))
    return found


def parsed(expression: str) -> Asked:
    """The metrics and labels of an expression."""
    asked, rest = Asked(), tokens(expression)
    signs = [text for kind, text in rest if kind == "sign"]
    for opening, closing in ("()", "{}"):
        assert signs.count(opening) == signs.count(closing), expression
    while rest:
        kind, text = rest.pop(0)
        if kind != "name" or text in OPERATORS:
            continue
        following = rest[0][1] if rest else ""
        if text in GROUPING:
            asked.groupings |= {t for k, t in until(rest, ")") if k == "name"}
        elif text in FUNCTIONS:
            assert following == "(" or following in GROUPING, f"{text} in {expression}"
        else:
            matchers = until(rest, "}") if following == "{" else []
            asked.selectors.append((text, matched(matchers)))
    return asked


def until(rest: list[tuple[str, str]], closing: str) -> list[tuple[str, str]]:
    """The tokens between a bracket, which is the next one, and its end; all are taken."""
    end = next(place for place, (_, text) in enumerate(rest) if text == closing)
    inner = rest[1:end]
    del rest[: end + 1]
    return inner


def matched(inner: list[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """The matchers of a selector: by label, operator and value."""
    parts = [token for token in inner if token[1] != ","]
    assert len(parts) % 3 == 0, inner
    return {
        parts[at][1]: (parts[at + 1][1], parts[at + 2][1].strip('"'))
        for at in range(0, len(parts), 3)
    }


def panels(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def rules(path: Path) -> list[dict[str, Any]]:
    """The rules of a file, of all its groups."""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[Any]:
    """Every expression there is, as a test's parameter."""
    for path in DASHBOARDS:
        for panel in panels(read(path)):
            exprs = [target["expr"] for target in panel["targets"]]
            yield pytest.param(exprs, id=f"{path.stem}-{panel['title']}")
    for rule in rules(PROMETHEUS_RULES):
        yield pytest.param([rule["expr"]], id=rule["alert"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """Every sample that Playhead exports: by name, its labels with the values seen."""
    with workspace(tmp_path_factory.mktemp("grafana") / "w", "counts", "windows") as opened:
        load_dimensions(opened)
        load(opened, watches(20))
        send(opened, watches(20, start=100))
        opened.speed(drain=True)
        opened.batch()
        folder = opened.path / GATEWAY_FOLDER
        folder.mkdir(parents=True)
        env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
        subprocess.run([sys.executable, "-c", GATEWAY], env=env, check=True)
        exposition = Exposition(opened)
        exposition.answered("/v1/views/{name}", 200, 0.1)
        text = exposition.text().decode()
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    # A gate that nothing was measured for has a limit, and no value.
    for name in ("playhead_gate_value", "playhead_gate_pass"):
        found[name]["gate"] |= found["playhead_gate_limit"]["gate"]
    return found


def labels_of(name: str, exported: Mapping[str, Labels]) -> set[str]:
    if name in OF_PROMETHEUS:
        return OF_PROMETHEUS[name]
    assert name in exported, f"{name} is not exported"
    return {*exported[name], *OF_SCRAPE}


def test_the_tokenizer_finds_metrics_and_labels() -> None:
    asked = parsed(
        'sum by (topic) (rate(a_total{job=~"$job", le="0.5"}[5m])) / on (job) group_right () b '
        "- time() > 1.5 and absent(c) offset 15m"
    )
    assert asked.metrics == {"a_total", "b", "c"}
    assert asked.selectors[0][1] == {"job": ("=~", "$job"), "le": ("=", "0.5")}
    assert asked.groupings == {"topic", "job"}
    with pytest.raises(AssertionError, match="no PromQL"):
        parsed("a ? b")


@pytest.mark.parametrize("exprs", list(expressions()))
def test_every_metric_and_label_is_exported(
    exprs: list[str], exported: Mapping[str, Labels]
) -> None:
    for expression in exprs:
        asked = parsed(expression)
        assert asked.metrics, expression
        known = set()
        for name, matchers in asked.selectors:
            labels = labels_of(name, exported)
            assert set(matchers) <= labels, f"{name} has no such label: {expression}"
            known |= labels
            for label, (operator, value) in matchers.items():
                if label in WHOLE_SETS and operator == "=":
                    assert value in exported[name][label], f"{label}={value}: {expression}"
        assert asked.groupings <= known, expression


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_legends_name_labels_that_are_left(path: Path, exported: Mapping[str, Labels]) -> None:
    for panel in panels(read(path)):
        for target in panel["targets"]:
            asked = parsed(target["expr"])
            known = set().union(*(labels_of(name, exported) for name in asked.metrics))
            for label in re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"]):
                assert label in known, panel["title"]
                grouped = re.search(r"\bby \(", target["expr"])
                assert not grouped or label in asked.groupings, panel["title"]


def test_every_metric_is_documented(exported: Mapping[str, Labels]) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in exported:
        if name.startswith("playhead_") and not name.endswith("_created"):
            plain = re.sub(r"_(bucket|sum|count)$", "", name)
            assert f"`{plain}`" in page, f"{plain} is not in docs/api.md"


def test_everything_is_well_formed() -> None:
    assert len(DASHBOARDS) == 3
    assert len(YAMLS) == 5
    for path in YAMLS:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path


def test_uids_and_titles_are_unique() -> None:
    boards = [read(path) for path in DASHBOARDS]
    uids = [board["uid"] for board in boards] + [rule["uid"] for rule in rules(GRAFANA_RULES)]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"playhead-[a-z-]{1,31}", uid) for uid in uids)
    assert [board["uid"] for board in boards] == [path.stem for path in DASHBOARDS]
    assert len({board["title"] for board in boards}) == len(boards)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_panels_stand_beside_each_other(path: Path) -> None:
    document = read(path)
    places = {panel["id"]: panel["gridPos"] for panel in document["panels"]}
    assert len(places) == len(document["panels"])
    assert all(g["x"] >= 0 and g["x"] + g["w"] <= 24 for g in places.values())
    for one, other in combinations(places.values(), 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart or above, (one, other)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_dashboards_fit_any_data_source(path: Path) -> None:
    document = read(path)
    variables = {variable["name"] for variable in document["templating"]["list"]}
    assert {"datasource", "job", "instance"} <= variables
    assert document["schemaVersion"] >= 41
    assert document["refresh"]
    assert document["time"]["to"] == "now"
    for panel in panels(document):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for source in (panel, *panel["targets"]):
            assert source["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            used = set(re.findall(r'"\$(\w+)"', target["expr"]))
            assert {"job", "instance"} <= used <= variables, target["expr"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


def test_both_kinds_of_rules_are_the_same() -> None:
    prometheus = {rule["alert"]: rule for rule in rules(PROMETHEUS_RULES)}
    grafana = {rule["title"]: rule for rule in rules(GRAFANA_RULES)}
    assert list(prometheus) == list(grafana)
    for name, rule in grafana.items():
        asks, judges = rule["data"]
        assert asks["model"]["expr"] == prometheus[name]["expr"]
        assert (rule["for"], rule["labels"]) == (
            prometheus[name]["for"],
            prometheus[name]["labels"],
        )
        assert rule["condition"] == judges["refId"] == judges["model"]["refId"]
        assert judges["model"]["expression"] == asks["refId"] == asks["model"]["refId"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_grafana_rules_ask_the_provisioned_data_source() -> None:
    path = FOLDER / "provisioning" / "datasources" / "playhead.yaml"
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    for rule in rules(GRAFANA_RULES):
        assert rule["data"][0]["datasourceUid"] == source["uid"]


def test_scraping_asks_the_api_with_a_key_of_a_file() -> None:
    path = FOLDER / "prometheus" / "scrape.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "playhead"
    assert job["authorization"].keys() == {"type", "credentials_file"}
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8601"]}]
    assert (path.parent / config["rule_files"][0]) == PROMETHEUS_RULES


def test_nothing_of_another_machine_is_named() -> None:
    for path in (*DASHBOARDS, *YAMLS):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?i)password|secret", text), path
        hosts = re.findall(r"https?://([^\s\"/:]+)", text)
        assert set(hosts) <= {"127.0.0.1"}, path


def test_the_page_says_what_each_alert_means() -> None:
    told = re.findall(r"^\| `(Playhead\w+)` \|", MONITORING, re.MULTILINE)
    assert told == [rule["alert"] for rule in rules(PROMETHEUS_RULES)]
