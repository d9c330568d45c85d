# SPDX-License-Identifier: Apache-2.0
"""What a `tracer verify` that was killed has left paused."""

import sys
from contextlib import suppress

from tracer.errors import NodeUnsupportedError


def restore_leftovers() -> None:
    """Puts it back and says so. What cannot be put back is said as well, and is no reason not to go on."""
    from tracer.experiment.state_file import restore_after_a_kill, runtime_directory

    try:
        said = restore_after_a_kill(runtime_directory())
    except NodeUnsupportedError as error:
        said = f"warning: {error}"
    if said is not None:
        with suppress(OSError):
            print(f"tracer: {said}", file=sys.stderr, flush=True)
