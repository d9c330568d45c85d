# SPDX-License-Identifier: Apache-2.0
"""Processes that count their own instructions and cycles while they work, each in a cgroup: a program of its own.

    counted_work.py alone CGROUP LOOPS
    counted_work.py forking CGROUP LOOPS PROCESSES
    counted_work.py together CGROUP LOOPS CGROUP LOOPS TURNS

prints for each cgroup a line with the instructions and the cycles between its process's first and last loop. What the
kernel does to start the process and to end it is in the cgroup's figures too, but not in these.
"""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable

_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}[platform.machine()]
_CYCLES, _INSTRUCTIONS = 0, 1
_INHERIT, _PINNED = 1 << 1, 1 << 2
_LIBC = ctypes.CDLL(None, use_errno=True)


def open_counter(config: int, *, pid: int = 0, cpu: int = -1, type: int = 0, flags: int = _PINNED) -> int:
    """A counter of this process, or of a CPU; an int to read 8 bytes from (perf_event_open(2))."""
    attribute = ctypes.create_string_buffer(struct.pack("@IIQQQQQ", type, 128, config, 0, 0, 0, flags), 128)
    descriptor = _LIBC.syscall(_PERF_EVENT_OPEN, attribute, pid, cpu, -1, 8)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(descriptor)


def read_counter(descriptor: int) -> int:
    """Its value; ValueError if it did not count all the time."""
    content = os.read(descriptor, 8)
    if len(content) < 8:
        raise ValueError("a pinned counter lost its place")
    return int(struct.unpack("@Q", content)[0])


def spin(loops: int) -> None:
    """The work; its instructions are proportional to `loops`."""
    total = 0
    for number in range(loops):
        total += number


def counted(cgroup: str, work: Callable[[], None], flags: int = _PINNED) -> int:
    """Starts a process in the cgroup; where to read what it counted from."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return reader
    with open(f"{cgroup}/cgroup.procs", "w") as processes:  # noqa: PTH123
        processes.write("0")
    counters = [open_counter(config, flags=flags) for config in (_INSTRUCTIONS, _CYCLES)]
    before = [read_counter(counter) for counter in counters]
    work()
    after = [read_counter(counter) for counter in counters]
    os.write(writer, " ".join(str(end - begin) for begin, end in zip(before, after, strict=True)).encode())
    os._exit(0)


def fork_and_spin(loops: int, processes: int) -> None:
    """Has so many children, one after the other, share the loops."""
    for _ in range(processes):
        pid = os.fork()
        if pid == 0:
            spin(loops // processes)
            os._exit(0)
        os.waitpid(pid, 0)


def spin_in_turns(loops: int, turns: int, mine: int, others: int) -> Callable[[], None]:
    """Shares the loops out over the turns that the two take."""

    def work() -> None:
        for _ in range(turns):
            os.read(mine, 1)
            spin(loops // turns)
            os.write(others, b"x")

    return work


def main(mode: str, *words: str) -> None:
    """Runs one mode and prints a line a cgroup."""
    if mode == "alone":
        started = [counted(words[0], lambda: spin(int(words[1])))]
    elif mode == "forking":
        # Inherited events cannot be pinned and read as a sum at once.
        started = [counted(words[0], lambda: fork_and_spin(int(words[1]), int(words[2])), _INHERIT)]
    else:
        (first_reads, first_writes), (second_reads, second_writes) = os.pipe(), os.pipe()
        turns = int(words[4])
        os.write(first_writes, b"x")
        started = [
            counted(words[0], spin_in_turns(int(words[1]), turns, first_reads, second_writes)),
            counted(words[2], spin_in_turns(int(words[3]), turns, second_reads, first_writes)),
        ]
    for reader in started:
        print(os.read(reader, 100).decode(), flush=True)
    for _ in started:
        os.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
