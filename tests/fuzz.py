# SPDX-License-Identifier: Apache-2.0
"""A million damaged inputs for all that reads bytes from outside, and a table of what became of them.

    fuzz.py [INPUTS [FIRST_SEED]]

Each target is tried in a process of its own, within a bound of memory and with somebody who looks whether it goes on.
An input that ends the process, takes too long, or raises what its target does not refuse, is printed, and kept in
`fuzz-findings/`; the exit code is 1 then.
"""

import mmap
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

from fuzz_mutation import damaged
from fuzz_targets import TARGETS, Target

_INPUTS = 1_000_000
_BEYOND_NOW_BYTES = 1 << 30
_LONGEST_SECONDS = 20.0
_MOST_FINDINGS = 10
_FINDINGS = Path("fuzz-findings")
_HEAD = 24


class Progress:
    """What a process is at, for who looks after it: the input's number, and the input."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _HEAD + (1 << 17))

    def begin(self, number: int, content: bytes) -> None:
        """That it is tried from now on."""
        head = number.to_bytes(8, "little") + len(content).to_bytes(8, "little")
        self._memory[: len(head) + 8] = head + bytes(8)
        self._memory[_HEAD : _HEAD + len(content)] = content

    @property
    def number(self) -> int:
        """Of the input."""
        return int.from_bytes(self._memory[:8], "little")

    @property
    def content(self) -> bytes:
        """The input."""
        return self._memory[_HEAD : _HEAD + int.from_bytes(self._memory[8:16], "little")]


def main(inputs: int, seed: int) -> int:
    """Tries all targets; returns the exit code."""
    shares = sum(target.share for target in TARGETS)
    print(f"{'target':16} {'inputs':>9} {'a second':>9} {'findings':>9}", flush=True)
    tried = findings = 0
    for target in TARGETS:
        wanted = -(-inputs * target.share // shares)
        began = time.monotonic()
        found = try_target(target, wanted, seed)
        rate = wanted / (time.monotonic() - began)
        print(f"{target.name:16} {wanted:9,} {rate:9,.0f} {found:9}", flush=True)
        tried, findings = tried + wanted, findings + found
    print(f"{'in all':16} {tried:9,} {'':9} {findings:9}")
    return min(findings, 1)


def try_target(target: Target, inputs: int, seed: int) -> int:
    """How many inputs it did not bear."""
    progress = Progress()
    first = found = 0
    while first < inputs and found < _MOST_FINDINGS:
        pid = os.fork()
        if not pid:
            _try(target, range(first, inputs), seed, progress)
        if (what := _watch(pid, progress)) is None:
            break
        found += 1
        first = progress.number + 1
        _FINDINGS.mkdir(exist_ok=True)
        kept = _FINDINGS / f"{target.name.replace(' ', '-')}-{seed}-{progress.number}"
        kept.write_bytes(progress.content)
        print(f"{target.name}: {what}: {kept}: {progress.content[:200]!r}", flush=True)
    return found


def _try(target: Target, numbers: range, seed: int, progress: Progress) -> None:
    """In a process of its own; does not return."""
    code = 1
    try:
        now_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
        resource.setrlimit(resource.RLIMIT_AS, (now_bytes + _BEYOND_NOW_BYTES, -1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        in_memory = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=in_memory if os.access(in_memory, os.W_OK) else None) as directory:
            take = target.make(Path(directory))
            for number in numbers:
                content = damaged(target.seeds, random.Random(f"{target.name} {seed} {number}"))
                progress.begin(number, content)
                with suppress(*target.refuses):
                    take(content)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _watch(pid: int, progress: Progress) -> str | None:
    """Waits for its end; how that was, None if it was good."""
    number, since = -1, time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code == 0:
                return None
            return f"ended by {signal.Signals(-code).name}" if code < 0 else "raised what it does not refuse"
        if progress.number != number:
            number, since = progress.number, time.monotonic()
        elif time.monotonic() - since > _LONGEST_SECONDS:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"took more than {_LONGEST_SECONDS:.0f} s"
        time.sleep(0.05)


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    sys.exit(main(numbers[0] if numbers else _INPUTS, numbers[1] if len(numbers) > 1 else 0))
