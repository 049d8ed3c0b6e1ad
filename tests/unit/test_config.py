"""Settings: the file, then the environment; mistakes are named with every place."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from playhead.config import FILE, TEMPLATE, Address, ApiSettings, Settings, read_settings
from playhead.errors import SettingError


def read(folder: Path, text: str | None = None, **environment: str) -> Settings:
    if text is not None:
        (folder / FILE).write_text(text, encoding="utf-8")
    return read_settings(folder, environment)


def test_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings == Settings()
    assert settings.trigger == timedelta(milliseconds=100)
    assert settings.retention == timedelta(days=7)


def test_the_template_changes_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, TEMPLATE) == Settings()
    lines = [line.removeprefix("# ") if " = " in line else line for line in TEMPLATE.splitlines()]
    assert read(tmp_path, "\n".join(lines)) == Settings()


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    text = '[speed]\ntrigger_ms = 10000\nseal_seconds = 5\n[views]\nfolders = ["a", "b"]\n'
    settings = read(tmp_path, text, PLAYHEAD_SPEED_TRIGGER_MS="500")
    assert (settings.speed.trigger_ms, settings.speed.seal_seconds) == (500, 5)
    assert settings.views.folders == ("a", "b")
    folders = os.pathsep.join(["x", "", "y"])
    settings = read(tmp_path, PLAYHEAD_VIEWS_FOLDERS=folders, PLAYHEAD_ENGINE_THREADS="0")
    assert settings.views.folders == ("x", "y")


def test_other_variables_are_none_of_ours(tmp_path: Path) -> None:
    others = {"PLAYHEAD_WORKSPACE": "w", "PLAYHEAD_TEST_STRICT": "1", "SPEED_TRIGGER_MS": "x"}
    assert read(tmp_path, **others) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sped]", "no section [sped]"),
        ("trigger_ms = 3", "no section [trigger_ms]"),
        ("[speed]\ntriger_ms = 3", "Did you mean trigger_ms?"),
        ("[speed]\nqqq = 3", "There are engine, trigger_ms, seal_seconds"),
        ("[speed", "Expected ']'"),
        ("[speed]\ntrigger_ms = 0", "speed.trigger_ms = 0 is no whole number of at least 1"),
        ("[speed]\ntrigger_ms = 2.5", "2.5 is no whole number"),
        ("[speed]\ntrigger_ms = true", "True is no whole number"),
        ('[speed]\ntrigger_ms = "soon"', "'soon' is no whole number"),
        ("[engine]\nthreads = -1", "-1 is no whole number of at least 0"),
        ("[engine]\nmemory_limit = 4", "4 is no amount of memory"),
        ('[engine]\nmemory_limit = "lots"', "'lots' is no amount of memory"),
        ("[views]\nfolders = [1]", "[1] is no list of folders"),
        ("[gateway]\nworkers = 65", "gateway.workers = 65 is no whole number from 1 to 64"),
        ("[gateway]\nworkers = 0", "gateway.workers = 0 is no whole number from 1 to 64"),
        ("[gateway]\naddress = 8600", "8600 is no address with a port"),
        ('[gateway]\ncors_origins = ["example.org"]', "is no list of origins"),
        ('[gateway]\ncors_origins = ["https://example.org/page"]', "is no list of origins"),
        ('[api]\nquery_memory = "much"', "'much' is no amount of memory"),
        ('[api]\ntls_certificate = "c.pem"', "api.tls_certificate is set, and api.tls_key is not"),
        ('[gateway]\ntls_key = "k.pem"', "gateway.tls_certificate is not: one needs"),
        ("[batch]\nevery_minutes = -1", "-1 is no whole number of at least 0"),
        ("[gates]\nmax_late_percent = 101", "101 is no number from 0 to 100"),
        ("[gates]\nmax_lag_seconds = inf", "inf is no number of at least 0"),
        ("[gates]\nmax_lag_seconds = true", "True is no number of at least 0"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert str(tmp_path / FILE) in str(caught.value)


def test_a_mistake_in_the_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        read(tmp_path, PLAYHEAD_SPEED_TRIGGER_MS="fast")
    text = str(caught.value)
    places = ["PLAYHEAD_SPEED_TRIGGER_MS", f"{tmp_path / FILE} [speed] trigger_ms", "default"]
    assert [place in text for place in places] == [True] * 3
    with pytest.raises(SettingError, match="PLAYHEAD_SPEED_TRIGER_MS: no setting") as caught:
        read(tmp_path, PLAYHEAD_SPEED_TRIGER_MS="500")
    assert "Did you mean trigger_ms?" in str(caught.value)


@pytest.mark.parametrize("size", ["512MB", "4 GB", "1.5gib", "2TiB"])
def test_amounts_of_memory(tmp_path: Path, size: str) -> None:
    assert read(tmp_path, f'[engine]\nmemory_limit = "{size}"').engine.memory_limit == size


@pytest.mark.parametrize(
    ("text", "host", "port", "is_loopback"),
    [
        ("127.0.0.1:8600", "127.0.0.1", 8600, True),
        ("127.8.0.1:0", "127.8.0.1", 0, True),
        ("[::1]:8600", "::1", 8600, True),
        ("localhost:80", "localhost", 80, True),
        ("192.0.2.1:65535", "192.0.2.1", 65535, False),
        ("[::]:8600", "::", 8600, False),
        ("[fe80::1]:1", "fe80::1", 1, False),
        ("events.example.org:443", "events.example.org", 443, False),
    ],
)
def test_addresses(text: str, host: str, port: int, is_loopback: bool) -> None:
    address = Address.parse(f" {text} ")
    assert (address.host, address.port, address.is_loopback) == (host, port, is_loopback)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8600",
        ":8600",
        "host",
        "host:",
        "host:-1",
        "host:65536",
        "host:١",
        "::1:8600",
        "[::1]",
        "[::1:8600",
        "[name]:8600",
        "a b:1",
        "host:1:2",
        "http://host:80",
        "[::g]:1",
    ],
)
def test_what_is_no_address(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingError, match="is no address with a port"):
        Address.parse(text)
    with pytest.raises(SettingError, match=r"looked at: PLAYHEAD_API_ADDRESS"):
        read(tmp_path, PLAYHEAD_API_ADDRESS=text)


def test_lists_from_the_environment_and_limits_as_numbers(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        PLAYHEAD_GATEWAY_CORS_ORIGINS="https://a.example:8443, http://b.example",
        PLAYHEAD_GATES_MAX_REJECTED_PERCENT="0.5",
        PLAYHEAD_BATCH_EVERY_MINUTES="0",
    )
    assert settings.gateway.cors_origins == ("https://a.example:8443", "http://b.example")
    assert settings.gates.max_rejected_percent == 0.5
    assert settings.batch.every_minutes == 0
    text = '[api]\ntls_certificate = "c.pem"\ntls_key = "k.pem"\ncors_origins = ["*"]\n'
    assert read(tmp_path, text).api == ApiSettings(
        cors_origins=("*",), tls_certificate="c.pem", tls_key="k.pem"
    )


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(SettingError, match=r"playhead\.toml"):
        read(tmp_path)


def test_read_settings_looks_at_the_real_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_LOG_PARTITIONS", "5")
    settings: Any = read_settings(tmp_path)
    assert settings.log.partitions == 5
