# SPDX-License-Identifier: Apache-2.0
"""The tracer's command line where the wall clock is set meanwhile, as only a guest's can be: by STEP_SECONDS, from when
the file STEP_FILE is there; only where the tracer reads its clocks. `tests/guest/test_clock_set.py` really sets it.
"""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from tracer.kernel import clock

FILE, SECONDS = "STEP_FILE", "STEP_SECONDS"


def main() -> None:
    """Runs it."""
    file, step_ns = Path(os.environ[FILE]), int(os.environ[SECONDS]) * 10**9

    def clock_gettime_ns(number: int) -> int:
        is_set = number == time.CLOCK_REALTIME and file.exists()
        return time.clock_gettime_ns(number) + is_set * step_ns

    with mock.patch.object(clock, "time", SimpleNamespace(**vars(time) | {"clock_gettime_ns": clock_gettime_ns})):
        from tracer.cli.main import main as run

        run()


if __name__ == "__main__":
    main()
