# SPDX-License-Identifier: Apache-2.0
"""A processor whose PMU counts exactly, which the machine at hand need not have: its time is made of instructions."""

from pathlib import Path

import pytest
from guests import PYTEST, Outcome, run_tests

pytestmark = pytest.mark.root


def test_counters_are_right(tmp_path: Path) -> None:
    guest = ("--arch", "arm64", "--count-instructions", "--timeout", "1800")
    # `make vm-test` also takes its counters away and asks for more than there are.
    which = "tests/guest/test_counters.py::test_instructions_and_cycles_of_cgroups"
    assert run_tests(tmp_path, *guest, "--", *PYTEST, which) == Outcome(1, 0, 0)
