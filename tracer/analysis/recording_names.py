# SPDX-License-Identifier: Apache-2.0
"""A recording as people name it: `DIR`, `DIR@RUN`, `DIR@FROM..TO`, `DIR@RUN@FROM..TO`, or a URL in place of DIR."""

import re
import shutil
import weakref
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from tracer.analysis.engines import Engine
from tracer.analysis.objects.finding import Found, find_periods
from tracer.analysis.objects.spool import spool
from tracer.analysis.objects.store import ObjectStore, is_url
from tracer.analysis.recording import Recording, open_recording
from tracer.analysis.runs import ALL, LAST, NEWEST
from tracer.errors import UsageError
from tracer.store.schemas import TABLES

# Of a URL, which may have such a sign in it, and which nothing can look for.
_RUN: Final = re.compile(rf"[0-9a-f-]{{1,36}}|{LAST}|{ALL}|{NEWEST}", re.IGNORECASE)


class Named(NamedTuple):
    """`runs` as `tracer.analysis.runs.choose_runs` has it, None where nothing was said; times as they were written.

    `place` is a directory or a URL.
    """

    place: str
    runs: str | None
    since: str | None
    until: str | None


def parse_name(text: str) -> Named:
    """What exists as it stands is a directory, whatever is in its name. Raises UsageError."""
    rest, runs, times = text, None, None
    while (is_url(rest) or not _exists(rest)) and "@" in rest:
        before, _at, selection = rest.rpartition("@")
        if is_url(rest) and ".." not in selection and not _RUN.fullmatch(selection):
            break
        rest = before
        if times is None and ".." in selection:
            times = selection
        elif runs is None and selection and ".." not in selection:
            runs = selection
        else:
            raise UsageError(f"not a recording: {text!r} (DIR, DIR@RUN, DIR@FROM..TO or DIR@RUN@FROM..TO)")
    since, _dots, until = (times or "").partition("..")
    return Named(rest, runs, since.strip() or None, until.strip() or None)


def open_named(
    texts: Sequence[str],
    *,
    since: str | None = None,
    until: str | None = None,
    local: bool = False,
    container: str | Sequence[str] | None = None,
    namespace: str | None = None,
    nodes: Sequence[str] = (),
    tables: Collection[str] = tuple(TABLES),
    engine: Engine | None = None,
) -> Recording:
    """The recording of these names; of a place of which no run was named, the newest one of each node.

    Times are as `parse_moment` reads them. `nodes` are the identifiers of those that are read alone. Of a URL the files
    of `tables` are copied, and removed with the recording. `engine` is what adds up rows, if not Polars. Raises
    UsageError as `open_recording` and `find_periods` do.
    """
    named = [parse_name(text) for text in texts]
    for one in named:
        if one.since is not None or one.until is not None:
            if len(named) > 1 or since is not None or until is not None:
                raise UsageError(f"{texts[named.index(one)]!r}: say the time once, with --since and --until")
            since, until = one.since, one.until
    found = [
        find_periods(
            ObjectStore(one.place),
            since=since,
            until=until,
            local=local,
            nodes=nodes,
            run=_digits(one.runs),
            compacted="last",
        )
        if is_url(one.place)
        else None
        for one in named
    ]
    times = _times(found, since, until)
    with ExitStack() as copied:
        directories = []
        for one, periods in zip(named, found, strict=True):
            directories.append(Path(one.place) if periods is None else spool(periods, tables))
            if periods is not None:
                copied.callback(shutil.rmtree, directories[-1], ignore_errors=True)
        recording = open_recording(
            directories,
            run=[one.runs or NEWEST for one in named],
            since=times[0],
            until=times[1],
            local=local,
            container=container,
            namespace=namespace,
            identifiers=nodes,
        )
        choices = [choice for one in found if one is not None for choice in one.choices]
        recording = replace(
            recording,
            places=tuple(one.place for one in named),
            choices=[*choices, *recording.choices],
            engine=engine,
        )
        weakref.finalize(recording, copied.pop_all().close)
    return recording


def _digits(runs: str | None) -> str | None:
    """How a run's id begins; of those that are chosen among all there are, nothing."""
    return None if runs in (None, LAST, ALL, NEWEST) else runs


def _times(
    found: Sequence[Found | None], since: str | None, until: str | None
) -> tuple[datetime | str | None, datetime | str | None]:
    """The time that is read: where it counts from an end of what an object store has, a part of that does not tell."""
    for one in found:
        if one is not None and (one.since is not None or one.until is not None):
            return one.since, one.until
    return since, until


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        # Too long, or no path at all.
        return False
