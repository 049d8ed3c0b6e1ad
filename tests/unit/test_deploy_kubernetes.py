"""deploy/kubernetes: valid by Kubernetes' own schemas, locked down, at one with the settings."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployment import DEPLOY, KNOWN, OWN_IMAGES, PINNED, SECRET, documents, leaves, setting
from playhead import __version__
from playhead.config import Address, Settings

FOLDER = DEPLOY / "kubernetes"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
ALL = [(path, each) for path in FILES for each in documents(path)]
VERSIONS = ("1.34", "1.37")
(KUSTOMIZATION,) = documents(FOLDER / "kustomization.yaml")
PORTS = {
    "gateway": Settings().gateway.address,
    "api": Settings().api.address,
    "dashboard": Settings().dashboard.address,
}
STAYS = {"gateway", "api", "dashboard", "speed", "spark-master", "spark-worker"}
SECRETS = {"playhead-credentials", "playhead-keys", "playhead-spark"}


def of_kind(kind: str) -> dict[str, Any]:
    return {each["metadata"]["name"]: each for _, each in ALL if each["kind"] == kind}


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Name, spec and labels of each pod."""
    for _, each in ALL:
        spec = each.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            template = spec["template"]
            yield each["metadata"]["name"], template["spec"], template["metadata"]["labels"]


PODS = list(pods())


@pytest.mark.cluster
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_fits_the_schemas(path: Path, version: str) -> None:
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="missing: kubernetes-validate"
    )
    for each in documents(path):
        assert kubernetes_validate.validate(each, version, strict=True) == version


def test_the_kustomization_names_every_file_and_the_images() -> None:
    assert sorted(KUSTOMIZATION["resources"]) == [path.name for path in FILES]
    tags = {image["name"]: image["newTag"] for image in KUSTOMIZATION["images"]}
    assert tags == dict.fromkeys(OWN_IMAGES, __version__)
    assert KUSTOMIZATION["namespace"] in of_kind("Namespace")


def test_every_pod_is_locked_down() -> None:
    for name, spec, _ in PODS:
        whole = spec["securityContext"]
        assert whole["runAsNonRoot"] is True, name
        assert whole["runAsUser"] > 0, name
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name


def test_every_container_says_what_it_needs() -> None:
    for name, spec, _ in PODS:
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            image, resources = container["image"], container["resources"]
            assert image in OWN_IMAGES or PINNED.fullmatch(image), f"{name}: {image}"
            assert set(resources["requests"]) == {"cpu", "memory"}, name
            assert "memory" in resources["limits"], name
        for volume in spec["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], name


def test_every_pod_that_stays_is_asked_how_it_is() -> None:
    asked = set()
    for name, spec, _ in PODS:
        (container,) = spec["containers"]
        probes = {key for key in container if key.endswith("Probe")}
        assert probes in (set(), {"startupProbe", "livenessProbe", "readinessProbe"}), name
        if probes:
            asked.add(name)
        if name in PORTS:
            assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert asked == STAYS


def test_ports_are_those_that_the_parts_listen_at() -> None:
    settings = tomllib.loads(of_kind("ConfigMap")["playhead-settings"]["data"]["playhead.toml"])
    services = of_kind("Service")
    for name, spec, _ in PODS:
        if name in PORTS:
            port = Address.parse(PORTS[name]).port
            (container,) = spec["containers"]
            assert container["args"] == ["up", "--only", name]
            assert [each["containerPort"] for each in container["ports"]] == [port]
            assert [each["port"] for each in services[name]["spec"]["ports"]] == [port]
            assert Address.parse(settings[name]["address"]).port == port


def test_services_budgets_and_scalers_mean_pods_that_are_there() -> None:
    labels = [set(labels.items()) for _, _, labels in PODS]
    for kind in ("Service", "PodDisruptionBudget"):
        for name, each in of_kind(kind).items():
            selector = each["spec"]["selector"]
            wanted = set(selector.get("matchLabels", selector).items())
            assert any(wanted <= own for own in labels), name
    deployments = of_kind("Deployment")
    for name, each in of_kind("HorizontalPodAutoscaler").items():
        target = deployments[each["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"], f"{name}: an apply would undo the scaling"
    assert set(of_kind("HorizontalPodAutoscaler")) == {"gateway", "api"}
    assert {"gateway", "api", "spark-worker"} == set(of_kind("PodDisruptionBudget"))


def test_what_there_may_be_only_one_of_is_never_two() -> None:
    deployments = of_kind("Deployment")
    for name in ("speed", "dashboard", "spark-master"):
        assert deployments[name]["spec"]["replicas"] == 1
        assert deployments[name]["spec"]["strategy"] == {"type": "Recreate"}
    assert of_kind("CronJob")["batch"]["spec"]["concurrencyPolicy"] == "Forbid"


def test_settings_are_playheads() -> None:
    written = tomllib.loads(of_kind("ConfigMap")["playhead-settings"]["data"]["playhead.toml"])
    named = {f"{section}.{key}" for section, keys in written.items() for key in keys}
    given = [each for _, spec, _ in PODS for c in spec["containers"] for each in c.get("env", [])]
    named |= {name for each in given if (name := setting(each["name"]))}
    assert named <= KNOWN
    assert written["speed"]["engine"] == written["batch"]["engine"] == "spark"


def test_secrets_are_referred_to_and_never_there() -> None:
    assert not of_kind("Secret")
    referred = set()
    for _, spec, _ in PODS:
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            for variable in container.get("env", []):
                assert "value" not in variable or not SECRET.search(variable["name"])
                referred.add(variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name"))
            referred |= {each["secretRef"]["name"] for each in container.get("envFrom", [])}
        referred |= {volume.get("secret", {}).get("secretName") for volume in spec["volumes"]}
    assert referred - {None} == SECRETS
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert all(f"secret generic {name}" in readme for name in SECRETS)


def test_mounts_and_volumes_go_together() -> None:
    for name, spec, _ in PODS:
        volumes = {volume["name"] for volume in spec["volumes"]}
        containers = [*spec.get("initContainers", []), *spec["containers"]]
        mounted = {mount["name"] for c in containers for mount in c["volumeMounts"]}
        assert mounted == volumes, name


def test_nothing_comes_in_that_is_not_named() -> None:
    policies = of_kind("NetworkPolicy")
    assert policies["nothing-comes-in"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name, spec, labels in PODS:
        talks_to_spark = any("SPARK_" in value for _, value in leaves(spec))
        assert (labels.get("spark") == "true") == talks_to_spark, name
