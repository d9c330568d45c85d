# SPDX-License-Identifier: Apache-2.0
"""Guests of the test VM, and the tests that run in them."""

import subprocess
import threading
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

VM = Path(__file__).parents[1] / "scripts" / "vm"
# What the machine at hand need not have.
ONLY_IN_GUESTS = tuple(
    f"tests/guest/test_{name}.py" for name in ("controllers", "huge_pages", "stacked_disks", "throttling")
)
# What each kernel must do.
CORE = ("-m", "core", "tests/kernel", *ONLY_IN_GUESTS)
PYTEST = ("pytest", "-p", "no:cacheprovider", "--junitxml=/results/tests.xml")


class Outcome(NamedTuple):
    """What pytest counted in a guest."""

    run: int
    failed: int
    skipped: int


class Guests:
    """Guests that run at the same time, to be ended together. Any thread may run one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] | None = set()

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs `scripts/vm run` to its end. An exception meanwhile, such as Ctrl-C, ends the guest."""
        with self._lock:
            if self._running is None:
                raise RuntimeError("the guests were ended")
            process = subprocess.Popen(
                [VM, "run", *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            self._running.add(process)
        with process:
            try:
                said, _errors = process.communicate()
            except BaseException:
                # Not killed, so that it removes its files.
                process.terminate()
                raise
            finally:
                with self._lock:
                    if self._running is not None:
                        self._running.discard(process)
        return subprocess.CompletedProcess(process.args, process.returncode, said)

    def end(self) -> None:
        """Ends those that run, for whose end `run` waits, and lets none begin."""
        with self._lock:
            running, self._running = self._running or set(), None
            for process in running:
                process.terminate()


def vm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return Guests().run(*arguments)


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
