# SPDX-License-Identifier: Apache-2.0
"""A processor whose PMU counts exactly, which the machine at hand need not have: its time is made of instructions."""

from pathlib import Path

import pytest
from guests import PYTEST, Outcome, run_tests

pytestmark = pytest.mark.root


def test_counters_are_right(tmp_path: Path) -> None:
    guest = ("--arch", "arm64", "--count-instructions", "--timeout", "1800")
    assert run_tests(tmp_path, *guest, "--", *PYTEST, "tests/guest/test_counters.py") == Outcome(3, 0, 0)
