# SPDX-License-Identifier: Apache-2.0
"""Guests of the test VM, and the tests that run in them."""

import subprocess
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

VM = Path(__file__).parents[1] / "scripts" / "vm"
PYTEST = ("pytest", "-p", "no:cacheprovider", "--junitxml=/results/tests.xml")


class Outcome(NamedTuple):
    """What pytest counted in a guest."""

    run: int
    failed: int
    skipped: int


def vm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [VM, "run", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def outcome(results: Path) -> Outcome:
    """Of pytest in a guest that left its results here."""
    (suite,) = ElementTree.parse(results / "tests.xml").getroot()
    count = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    return Outcome(count["tests"], count["failures"] + count["errors"], count["skipped"])


def run_tests(results: Path, *arguments: str | Path) -> Outcome:
    """Runs pytest in a guest; `arguments` are those of `scripts/vm run`."""
    # Shown if something fails.
    print(vm("--results", results, *arguments).stdout)
    return outcome(results)
