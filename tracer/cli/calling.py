# SPDX-License-Identifier: Apache-2.0
"""How the user calls the tracer, for commands that are to be copied."""

import os
import shlex
import shutil
import sys


def command_name() -> str:
    """`tracer` where that is on the PATH, else the path by which it was called."""
    called = sys.argv[0]
    if not os.access(called, os.X_OK) or os.path.basename(called) != "tracer" or shutil.which("tracer"):  # noqa: PTH119
        return "tracer"
    return shlex.quote(called)
