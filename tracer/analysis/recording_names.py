# SPDX-License-Identifier: Apache-2.0
"""A recording as people name it: `DIR`, `DIR@RUN`, `DIR@FROM..TO`, `DIR@RUN@FROM..TO`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tracer.analysis.recording import Recording, open_recording
from tracer.analysis.runs import NEWEST
from tracer.errors import UsageError


class Named(NamedTuple):
    """`runs` as `tracer.analysis.runs.choose_runs` has it, None where nothing was said; times as they were written."""

    directory: Path
    runs: str | None
    since: str | None
    until: str | None


def parse_name(text: str) -> Named:
    """What exists as it stands is a directory, whatever is in its name. Raises UsageError."""
    rest, runs, times = text, None, None
    while not _exists(rest) and "@" in rest:
        rest, _at, selection = rest.rpartition("@")
        if times is None and ".." in selection:
            times = selection
        elif runs is None and selection and ".." not in selection:
            runs = selection
        else:
            raise UsageError(f"not a recording: {text!r} (DIR, DIR@RUN, DIR@FROM..TO or DIR@RUN@FROM..TO)")
    since, _dots, until = (times or "").partition("..")
    return Named(Path(rest), runs, since.strip() or None, until.strip() or None)


def open_named(
    texts: Sequence[str],
    *,
    since: str | None = None,
    until: str | None = None,
    local: bool = False,
    container: str | Sequence[str] | None = None,
    namespace: str | None = None,
) -> Recording:
    """The recording of these names; of a directory of which no run was named, the newest one of each node.

    Times are as `parse_moment` reads them. Raises UsageError as `open_recording` does.
    """
    named = [parse_name(text) for text in texts]
    for one in named:
        if one.since is not None or one.until is not None:
            if len(named) > 1 or since is not None or until is not None:
                raise UsageError(f"{texts[named.index(one)]!r}: say the time once, with --since and --until")
            since, until = one.since, one.until
    return open_recording(
        [one.directory for one in named],
        run=[one.runs or NEWEST for one in named],
        since=since,
        until=until,
        local=local,
        container=container,
        namespace=namespace,
    )


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        # Too long, or no path at all.
        return False
