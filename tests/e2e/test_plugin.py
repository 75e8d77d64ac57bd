import subprocess
import sys

import pytest

SPIN = """
import time

def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
"""


def test_a_users_test_compares_step_times(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        SPIN
        + """
def test_memory_is_faster(profkit_measure):
    baseline = profkit_measure(lambda batch: spin(0.008), range(20))
    in_memory = profkit_measure(lambda batch: spin(0.0005), range(20))
    assert baseline.steps == 30
    assert in_memory.step_time * 2 < baseline.step_time

def test_that_is_wrong(profkit_measure):
    found = profkit_measure(lambda batch: spin(0.001), range(20), steps=25)
    assert found.share("other") < 0.5
"""
    )
    result = pytester.runpytest_subprocess("--profkit-steps=30", "--profkit-warmup=3")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*assert <*share, 95 % *blocks> < 0.5*"])


def test_the_options_stand_in_the_help(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--help")
    result.stdout.fnmatch_lines(["*--profkit-steps=N*", "*--profkit-timeout=SECONDS*"])


def test_the_plugin_loads_nothing_until_it_is_used() -> None:
    code = (
        "import sys, pytest, profkit.pytest_plugin; "
        "print([name for name in ('torch', 'numpy', 'pandas', 'scipy') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
