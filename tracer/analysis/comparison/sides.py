# SPDX-License-Identifier: Apache-2.0
"""What to compare, as people write it: `DIR`, `DIR@RUN`, `DIR@FROM..TO`, `DIR@RUN@FROM..TO`."""

from pathlib import Path

from tracer.analysis.recording import Recording, open_recording
from tracer.errors import UsageError


def open_side(text: str, *, container: str | None = None, namespace: str | None = None) -> Recording:
    """The recording in DIR; of the run whose id begins with RUN alone; from FROM to before TO, either of which may
    be missing.

    What exists as it stands is a directory, whatever is in its name. Times are as `parse_moment` reads them. Raises
    UsageError as `open_recording` does.
    """
    directory, run, since, until = _split(text)
    return open_recording(
        [directory], run=run, since=since, until=until, container=container, namespace=namespace
    )  # fmt: skip


def _split(text: str) -> tuple[Path, str | None, str | None, str | None]:
    """Directory, run, since, until."""
    rest, run, times = text, None, None
    while not _exists(rest) and "@" in rest:
        rest, _at, selection = rest.rpartition("@")
        if times is None and ".." in selection:
            times = selection
        elif run is None and selection and ".." not in selection:
            run = selection
        else:
            raise UsageError(f"not something to compare: {text!r} (DIR, DIR@RUN, DIR@FROM..TO or DIR@RUN@FROM..TO)")
    since, _dots, until = (times or "").partition("..")
    return Path(rest), run, since.strip() or None, until.strip() or None


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        # Too long, or no path at all.
        return False
