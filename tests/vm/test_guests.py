# SPDX-License-Identifier: Apache-2.0
"""The test VM, and in it what the machine at hand cannot show: another kernel, and a processor with counters."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import pytest
from guests import ONLY_IN_GUESTS, PYTEST, run_tests, vm

pytestmark = pytest.mark.root


def test_a_command_runs_and_its_results_come_back(tmp_path: Path) -> None:
    script = 'echo "$(id -u) $(uname -r)"; ls /sys/class/net; echo 1 >/results/one; ln -s one /results/two; exit 7'
    ended = vm("--results", tmp_path / "new", "--", "sh", "-c", script)
    user, kernel, networks = ended.stdout.split()
    assert (ended.returncode, user, kernel.split(".")[:2], networks) == (7, "0", ["6", "12"], "lo")
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == {"one": "1\n", "two": "1\n"}


def free_directories() -> set[Path]:
    """Directories of guests that no process holds."""
    free = set()
    for path in Path("/var/tmp").glob("tracer-vm-*"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                free.add(path)
            os.close(descriptor)
    return free


def test_a_guest_that_does_not_end_is_ended() -> None:
    before = free_directories()
    ended = vm("--timeout", "5", "--", "sleep", "1000")
    assert ended.returncode == 125
    assert ended.stdout.startswith("vm: the guest did not end within 5 s; its console's last lines: ")
    assert free_directories() <= before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--topology", "2:2"], "--topology is four numbers, such as 2:2:2:2"),
        (["--topology", "1:1:2:2", "--cpus", "2"], "--topology 1:1:2:2 makes 4 CPUs"),
        (["--count-instructions"], "--count-instructions is for arm64 with one CPU"),
        (["--arch", "arm64", "--kernel", "6.1"], "the kernel for arm64 is 6.12"),
        (["--numa", "3"], "--cpus, --numa, --memory (512 at least) or --timeout is out of range"),
    ],
)
def test_a_mistake_is_told(arguments: list[str], says: str) -> None:
    ended = vm(*arguments, "--", "true")
    assert ended.returncode == 2
    assert ended.stdout.endswith(f"vm: error: {says}\n")


def test_memory_that_the_machine_does_not_have_is_told() -> None:
    ended = vm("--memory", str(1 << 30), "--", "true")
    assert ended.returncode == 125
    assert ended.stdout.startswith(f"vm: the guest is to have {(1 << 30) + 512} MiB of memory, the machine has ")


def test_the_tracer_on_a_kernel_of_debian(tmp_path: Path) -> None:
    # What is particular to a guest, in half a minute; `make vm-test` runs all that each kernel must do.
    tests = run_tests(tmp_path, "--timeout", "2400", "--", *PYTEST, "-m", "core", *ONLY_IN_GUESTS, "-k", "not a_limit")
    assert tests.run > 10
    assert (tests.failed, tests.skipped) == (0, 0)
