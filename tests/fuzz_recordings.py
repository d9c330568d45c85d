# SPDX-License-Identifier: Apache-2.0
"""Random damage of a simulated recording, without end or for so many seeds: each command must bear it.

    fuzz_recordings.py [FIRST_SEED [SEEDS]]

Prints each seed whose recording makes a command end otherwise than with one line; the exit code is 1 then. `pytest
tests/unit/test_damaged_recordings.py` tries a few.
"""

import itertools
import sys
import tempfile
from pathlib import Path

from recording_damage import Commands, try_one

from tracer.simulate import simulate


def main(first: int, seeds: int | None) -> int:
    """Tries recording after recording; returns the exit code."""
    defects = 0
    with tempfile.TemporaryDirectory() as name, Commands(Path(name)) as commands:
        recording = Path(name) / "recording"
        simulate("cache-thrash", seed=1, duration_ns=4 * 10**9, output=recording, ticks=True, containers=6)
        for seed in itertools.count(first) if seeds is None else range(first, first + seeds):
            for wrong in try_one(commands, recording, Path(name) / "copy", seed, everything=seeds is None):
                defects += 1
                print(wrong, flush=True)
            if seed % 50 == 0:
                print(f"{seed}: {defects} defects so far", flush=True)
    return min(defects, 1)


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    sys.exit(main(numbers[0] if numbers else 0, numbers[1] if len(numbers) > 1 else None))
