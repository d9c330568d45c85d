# SPDX-License-Identifier: Apache-2.0
"""Half a minute of `make soak`: by then what is lost, left, or leaked with each container shows; the slow does not."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

SOAK = Path(__file__).parents[2] / "bench" / "soak.py"


def test_a_run_under_a_load_without_rest_leaks_and_loses_nothing() -> None:
    done = subprocess.run([sys.executable, SOAK, "30"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("flat, none lost, nothing left\n")
