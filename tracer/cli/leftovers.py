# SPDX-License-Identifier: Apache-2.0
"""What a `tracer verify` or a `tracer demo` that was killed has left behind."""

import sys
from contextlib import suppress

from tracer.errors import NodeUnsupportedError


def restore_leftovers() -> None:
    """Puts it back and says so. What cannot be put back is said as well, and is no reason not to go on."""
    from tracer.containers.cgroupfs import find_cgroup2_mount
    from tracer.demo.scene import remove_leftovers
    from tracer.experiment.state_file import restore_after_a_kill, runtime_directory

    try:
        said = restore_after_a_kill(runtime_directory())
    except NodeUnsupportedError as error:
        said = f"warning: {error}"
    removed = [f"a `tracer demo` was killed: removed {name}" for name in remove_leftovers(find_cgroup2_mount())]
    for line in (*([said] if said is not None else []), *removed):
        with suppress(OSError):
            print(f"tracer: {line}", file=sys.stderr, flush=True)
