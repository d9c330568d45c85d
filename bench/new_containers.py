# SPDX-License-Identifier: Apache-2.0
"""What each new container costs a live run, before and after thousands have come and gone.

    python bench/new_containers.py [CHECKOUT]

The CPU time of `tracer run`, all its threads, while as many containers live, each for a second, less what it takes
while as many live that do the same and are not replaced. With CHECKOUT, the directory of another state of this
repository, that one is measured, too.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _common import need_root, prefer, print_machine, print_mark
from _containers import Container, cgroup_tree, remove_cgroups

LIVING = 12
LIFE_SECONDS = 1.0
DEAD = 5_000
SECONDS = 10
ROUNDS = 3
# Queries are compiled, files opened, the many dead told of.
SETTLE_SECONDS = 5
OPTIONS = ("--rotate", "10s")
ROTATION_SECONDS = 10
MARK_MS = 1

_HERE = Path(__file__).resolve().parent


@contextmanager
def tracing(checkout: Path, output: Path, state: Path) -> Iterator[int]:
    """A run of that checkout; the id of its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tracer.cli.main", "run", "--output", output, "--containerd-state", state, *OPTIONS],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    prefer(process.pid)
    assert process.stderr is not None
    try:
        said = ""
        while "tracing" not in said:
            said = process.stderr.readline()
            assert said, "the tracer ended"
        yield process.pid
    finally:
        process.terminate()
        _out, said = process.communicate()
    assert process.returncode == 0, said
    assert "none lost" in said, said


def cpu_ms(pid: int) -> float:
    """CPU time of a process so far."""
    # What clock_getcpuclockid(3) gives: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel.
    return time.clock_gettime_ns(~pid << 3 | 2) / 1e6


def measure(pid: int, root: Path, state: Path, life: float) -> tuple[float, float]:
    """(the tracer's CPU time in ms/s, new containers/s) while there are containers of that life."""
    churn = subprocess.Popen(
        [sys.executable, _HERE / "_churn.py", root, state, str(LIVING), str(life)],
        env={**os.environ, "PYTHONPATH": str(_HERE.parent)},
        stdout=subprocess.PIPE,
        text=True,
    )
    begun = time.monotonic()
    time.sleep(SETTLE_SECONDS)
    before, at = cpu_ms(pid), time.monotonic()
    time.sleep(SECONDS)
    used, seconds = cpu_ms(pid) - before, time.monotonic() - at
    churn.terminate()
    made, _errors = churn.communicate()
    rate = (len(made.splitlines()) - LIVING) / (time.monotonic() - begun)
    return used / seconds, rate


def cost_of_a_container(pid: int, root: Path, state: Path) -> float:
    """ms of CPU time."""
    costs = []
    for _round in range(ROUNDS):
        still, _rate = measure(pid, root, state, float("inf"))
        churning, rate = measure(pid, root, state, LIFE_SECONDS)
        costs.append((churning - still) / rate)
        print(
            f"  {still:.1f} ms/s; with {rate:.1f} new containers a second {churning:.1f} ms/s: {costs[-1]:.2f} ms each"
        )
    return statistics.median(costs)


def let_die(root: Path, count: int) -> None:
    """So many containers come and go, each in a pod of its own, without a process."""
    for _number in range(count):
        container = Container.new(root, Path("/"))
        container.cgroup.mkdir(parents=True)
        container.cgroup.rmdir()
        container.pod.rmdir()
    remove_cgroups(root / "kubepods.slice")
    # What is told of them goes into files before anything is measured.
    time.sleep(ROTATION_SECONDS + SETTLE_SECONDS)


def bench(checkout: Path) -> tuple[float, float]:
    """ms a container without and with many dead ones."""
    with tempfile.TemporaryDirectory() as directory, cgroup_tree() as root:
        state = Path(directory, "state")
        state.mkdir()
        with tracing(checkout, Path(directory, "results"), state) as pid:
            few = cost_of_a_container(pid, root, state)
            let_die(root, DEAD)
            print(f"  {DEAD:,} containers have come and gone")
            return few, cost_of_a_container(pid, root, state)


def main() -> None:
    need_root()
    print_machine()
    results = []
    for checkout in [_HERE.parent, *map(Path, sys.argv[1:2])]:
        print(f"{checkout.name}:")
        results.append(bench(checkout.resolve()))
    (few, many), *other = results
    for other_few, other_many in other:
        print(f"of the other's cost: {few / other_few:.2f} without dead ones, {many / other_many:.2f} with them")
    print_mark("with dead ones beside, of the cost without", many / few, at_most=1.3)
    print_mark("a new container, ms of CPU time", few, at_most=MARK_MS)
    print_mark(f"a new container where {DEAD:,} have come and gone, ms of CPU time", many, at_most=MARK_MS)


if __name__ == "__main__":
    main()
