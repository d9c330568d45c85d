# SPDX-License-Identifier: Apache-2.0
"""A run that `tracer top` begins where none is there to look at: it writes nothing until somebody asks."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracer.errors import NodeUnsupportedError
from tracer.live.attaching import Attached

_KEEP, _AFTER = "5m", "10s"
_OUTPUT = "results"
_END_SECONDS = 60
# prctl(2).
_PR_SET_PDEATHSIG = 1


@contextmanager
def own_run() -> Iterator[Attached]:
    """Traces until this ends. Recordings that are asked for go to `results` here. Raises NodeUnsupportedError."""
    with tempfile.TemporaryDirectory(prefix="tracer-top-") as directory:
        path = Path(directory) / "top.sock"
        command = [
            # Not from this directory, which may be anybody's.
            *(sys.executable, "-P", "-m", "tracer.cli.main", "run", "--recorder", _KEEP, "--after", _AFTER),
            *("--output", _OUTPUT, "--socket", str(path)),
        ]
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        parent = os.getpid()

        def end_with_parent() -> None:
            # Python's own handlers would only take note of it here, and what is started forgets that.
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)

        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            preexec_fn=end_with_parent,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            said = ""
            for line in process.stderr:
                said = line.strip() or said
                if "tracing " in line:
                    break
            else:
                raise NodeUnsupportedError(said.removeprefix("tracer: ").removeprefix("error: "))
            # What it says later, so that it never waits for room.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield Attached(path)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
