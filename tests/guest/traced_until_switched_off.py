# SPDX-License-Identifier: Apache-2.0
"""Run in a guest: a tracer that writes to the disk `disk` until the machine is switched off.

Prints a line each 0.1 s: CLOCK_MONOTONIC, for how long the tracer's threads had no CPU though they were ready to run
(both ns; proc_pid_schedstat(5)), and how many closed files of windows there are.
"""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

MOUNTED = Path("/mnt")


def disk() -> Path:
    """Of `scripts/vm run --disk`."""
    serials = {path: (path / "serial").read_text() for path in Path("/sys/block").glob("vd*")}
    (found,) = [path for path, serial in serials.items() if serial == "disk"]
    return Path("/dev", found.name)


def waited_ns(pid: int) -> int:
    """Of all threads."""
    waited = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError, IndexError):
            waited += int((task / "schedstat").read_text().split()[1])
    return waited


def main() -> None:
    """Never ends by itself."""
    subprocess.run(["mount", disk(), MOUNTED], check=True)
    # Emulated, what numba compiles takes its time, and is kept.
    subprocess.run(["tracer", "run", "--duration", "3s", "--output", "/tmp/compiled"], check=True)
    output = MOUNTED / "results"
    tracer = subprocess.Popen(["tracer", "run", "--sync", "--rotate", "5s", "--output", output], stdout=sys.stderr)
    while tracer.poll() is None:
        files = len([*output.glob("windows/*/*/*.parquet")])
        print("beat", time.monotonic_ns(), waited_ns(tracer.pid), files, flush=True)
        time.sleep(0.1)


main()
