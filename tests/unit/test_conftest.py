"""The strict switch: a skip for a missing part is a failure, other skips are not."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CASES = """
import pytest

def test_passes():
    pass

def test_part_is_missing():
    pytest.skip("missing: the engine")

@pytest.mark.skip(reason="missing: the service")
def test_marked():
    pass

def test_other_reason():
    pytest.skip("not on this platform")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    conftest = Path(__file__).parents[1] / "conftest.py"
    pytester.makeconftest(conftest.read_text())
    pytester.makepyfile(CASES)
    return pytester


def test_missing_parts_are_skipped_without_the_switch(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLAYHEAD_TEST_STRICT", raising=False)
    suite.runpytest_inprocess().assert_outcomes(passed=1, skipped=3)


def test_missing_parts_fail_with_the_switch(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_TEST_STRICT", "1")
    result = suite.runpytest_inprocess()
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 1
    assert outcomes["skipped"] == 1
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 2
    result.stdout.fnmatch_lines(["*PLAYHEAD_TEST_STRICT is set*missing: the engine*"])


def test_a_module_that_skips_itself_fails_with_the_switch(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.makepyfile(
        test_module="import pytest\npytest.skip('missing: a part', allow_module_level=True)"
    )
    monkeypatch.setenv("PLAYHEAD_TEST_STRICT", "1")
    assert suite.runpytest_inprocess("test_module.py").ret != 0
    monkeypatch.setenv("PLAYHEAD_TEST_STRICT", "0")
    suite.runpytest_inprocess("test_module.py").assert_outcomes(skipped=1)
