# SPDX-License-Identifier: Apache-2.0
"""Whether a flight recorder's memory stays what it is: a live one, that nobody asks for anything until the end.

    python bench/recorder_soak.py [SECONDS]

For SECONDS (1,800 if not given) `tracer run --recorder 5m` keeps each tick of containers that come and go, two a
second, and of two processes that throw a byte to and fro. What it holds is to be flat from when the first dead
containers are forgotten on. At the end a recording is asked for, which must be complete. Exits with 1 if anything is
wrong.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from _common import need_root, prefer, print_machine
from _containers import cgroup_tree
from _flatness import course
from _soaked import sample
from soak import LEAST_STEADY_SECONDS, STEADY_AFTER_SECONDS, STEADY_BOUNDS, load

from tracer.store.manifest import Manifest, read_manifest

KEEP: Final = "5m"
LIVING, LIFE_SECONDS = 12, 6.0
# Of a segment of the recorder's memory.
PERIOD_SECONDS = 5
OF_MEMORY = ("resident memory, MB", "file descriptors", "threads", "inotify watches")
_HERE = Path(__file__).resolve().parent
_CLI = (sys.executable, "-m", "tracer.cli.main")


def held(root: Path, directory: Path, seconds: float) -> tuple[list[float], dict[str, list[float]], Manifest]:
    """When it was looked at and what it held then, by name; and the recording's manifest."""
    output, state, socket = directory / "results", directory / "state", directory / "socket"
    state.mkdir()
    options = ["--output", output, "--containerd-state", state, "--socket", socket, "--recorder", KEEP, "--after", "1s"]
    tracer = subprocess.Popen([*_CLI, "run", *options], stderr=subprocess.PIPE, text=True, start_new_session=True)
    prefer(tracer.pid)
    times: list[float] = []
    found: dict[str, list[float]] = {name: [] for name in OF_MEMORY}
    try:
        assert tracer.stderr is not None
        while "tracing" not in (line := tracer.stderr.readline()):
            assert line, "the tracer ended"
        with ExitStack() as stack:
            out = stack.enter_context((directory / "made").open("w"))
            churn = ["_churn.py", str(root), str(state), str(LIVING), str(LIFE_SECONDS)]
            ping_pong = ["_ping_pong.py", str(max(os.sched_getaffinity(0))), str(10**12)]
            stack.enter_context(load(_HERE / churn[0], *churn[1:], out=out))
            throwing = stack.enter_context(load(_HERE / ping_pong[0], *ping_pong[1:], out=out))
            stack.callback(os.killpg, throwing.pid, signal.SIGKILL)
            begun = time.monotonic()
            while (now := time.monotonic() - begun) < seconds:
                assert tracer.poll() is None, "the tracer ended"
                times.append(now)
                values = sample(tracer.pid, output)
                for name in OF_MEMORY:
                    found[name].append(values[name])
                if int(now) % 60 == 0:
                    print(f"  {now:5.0f} s: {values[OF_MEMORY[0]]:.1f} MB", flush=True)
                time.sleep(1)
            assert not list(output.iterdir()), "something was written"
            subprocess.run([*_CLI, "mark", "--socket", socket, "the end"], check=True)
            time.sleep(5)
        tracer.terminate()
        _out, said = tracer.communicate(timeout=120)
        print(said.strip())
        assert tracer.returncode == 0
    finally:
        if tracer.poll() is None:
            tracer.kill()
            tracer.wait()
    (path,) = output.glob("runs/*/session.json")
    return times, found, read_manifest(path)


def main() -> None:
    need_root()
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1800.0
    if seconds < STEADY_AFTER_SECONDS + LEAST_STEADY_SECONDS:
        sys.exit(f"in less than {STEADY_AFTER_SECONDS + LEAST_STEADY_SECONDS:g} s nothing is steady")
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    print_machine()
    with tempfile.TemporaryDirectory() as directory, cgroup_tree() as root:
        times, found, manifest = held(root, Path(directory), seconds)
    first = next(index for index, second in enumerate(times) if second >= STEADY_AFTER_SECONDS)
    wrong = []
    print(f"{'':22}{'first third':>12}{'last third':>12}{'slope an hour':>16}{'+-':>10}{'at most':>10}")
    for name, values in found.items():
        one, bound = course(times[first:], values[first:], period_seconds=PERIOD_SECONDS), STEADY_BOUNDS[name]
        rises = one.rises(bound)
        wrong += [f"{name} rises"] * rises
        print(f"{name:22}{one.first:12,.2f}{one.last:12,.2f}{one.slope:16,.2f}{one.uncertainty:10,.2f}{bound:10,.1f}"
              f"  {'RISES' if rises else 'flat'}")  # fmt: skip
    assert manifest.end is not None
    length = (manifest.end.utc_ns - manifest.start.utc_ns) / 1e9
    totals = manifest.totals
    print(f"the recording is of {length:.0f} s: {sum(totals.rows.values()):,} rows, {totals.rows_lost:,} lost, "
          f"{sum(totals.bytes.values()) / 1e6:.1f} MB")  # fmt: skip
    if manifest.status != "finished" or totals.rows_lost or totals.records_lost:
        wrong.append("the recording is not complete")
    print("; ".join(wrong) if wrong else "flat, none lost")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
