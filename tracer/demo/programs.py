# SPDX-License-Identifier: Apache-2.0
"""What runs in the demo's containers; a program of its own, which imports nothing of the tracer.

    programs.py service|hog PARENT CPU SECONDS

It waits for a line on standard input before it begins, and ends after SECONDS, on a SIGTERM, or with its PARENT,
however that ends. The service prints a line of JSON at its end: `requests`, the medians `work_ns` and `latency_ns`, and
`slowest_ns`, which one in a hundred reached.
"""

import ctypes
import json
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_REQUEST_EVERY_NS = 5_000_000
_REQUEST_WORK_NS = 500_000
_BURST_EVERY_NS = 250_000_000
_BURST_NS = 120_000_000
# Behind one alone a service that slept would hardly wait: the scheduler lets it go first.
_HOG_PROCESSES = 3


_ended: list[int] = []


def serve(end_ns: int) -> None:
    """Answers a request each 5 ms with 0.5 ms of work, one after the other, and says how long they took."""
    latencies: list[int] = []
    works: list[int] = []
    due_ns = time.monotonic_ns()
    while not _ended and (due_ns := due_ns + _REQUEST_EVERY_NS) < end_ns:
        if (early_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(early_ns / 1e9)
        began_ns = time.thread_time_ns()
        while time.thread_time_ns() - began_ns < _REQUEST_WORK_NS:
            pass
        works.append(time.thread_time_ns() - began_ns)
        latencies.append(time.monotonic_ns() - due_ns)
    latencies.sort()
    works.sort()
    if latencies:
        middle = len(latencies) // 2
        answer = {
            "requests": len(latencies),
            "work_ns": works[middle],
            "latency_ns": latencies[middle],
            "slowest_ns": latencies[len(latencies) * 99 // 100],
        }
        print(json.dumps(answer), flush=True)


def hog(end_ns: int) -> None:
    """Uses all that it gets of the CPU, with several processes, for 120 of each 250 ms."""
    begin_ns = time.monotonic_ns()
    for _process in range(_HOG_PROCESSES - 1):
        parent = os.getpid()
        if os.fork() == 0:
            end_with(parent)
            break
    while (now_ns := time.monotonic_ns()) < end_ns:
        into_ns = (now_ns - begin_ns) % _BURST_EVERY_NS
        if into_ns >= _BURST_NS:
            time.sleep((_BURST_EVERY_NS - into_ns) / 1e9)


def end_with(parent: int) -> None:
    """The kernel kills this process when its parent has ended (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()


def main() -> None:
    """See the module."""
    role, parent, cpu, seconds = sys.argv[1:]
    # A Ctrl-C on the terminal is for the demo, which ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if role == "service":
        signal.signal(signal.SIGTERM, lambda number, _frame: _ended.append(number))
    end_with(int(parent))
    os.sched_setaffinity(0, {int(cpu)})
    if sys.stdin.readline():
        {"service": serve, "hog": hog}[role](time.monotonic_ns() + int(float(seconds) * 1e9))


if __name__ == "__main__":
    main()
