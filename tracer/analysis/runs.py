# SPDX-License-Identifier: Apache-2.0
"""The runs whose files lie in an output directory, and which of them are meant."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tracer.analysis.file_checks import run_of
from tracer.analysis.recorded_files import closed_files
from tracer.errors import UsageError
from tracer.store.layout import parse_closed_file
from tracer.store.manifest import Manifest, read_manifest

LAST: Final = "last"
ALL: Final = "all"
NEWEST: Final = "newest"
ID_DIGITS: Final = 8
_MOST_LISTED: Final = 8
_RUN_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class FoundRun(NamedTuple):
    """A run that left files or a manifest.

    `id` are the first 8 digits, which are in the names of its files; `full_id` all of them where a manifest has them,
    `node` is the node's name, or without a manifest the identifier in its files' paths. `begin` sorts runs by their
    start. `manifest` is None where there is none that can be read; then `damage` may say why.
    """

    id: str
    full_id: str
    node: str
    begin: tuple[str, str]
    files: list[str]
    manifest: Manifest | None
    damage: str | None


def find_runs(directory: Path) -> list[FoundRun]:
    """All runs of `directory`, the oldest first. Raises UsageError where there is none, or no such directory."""
    files: dict[str, list[str]] = {}
    closed, _unfinished, _unreadable = closed_files(directory)
    for name in closed:
        files.setdefault(run_of(name), []).append(name)
    manifests = {
        path.parent.name.replace("-", ""): path
        for path in directory.glob("runs/*/session.json")
        if _RUN_ID.fullmatch(path.parent.name)
    }
    full_ids = {full_id[:ID_DIGITS]: full_id for full_id in manifests}
    found = [
        _found(run, full_ids.get(run, run), files.get(run, []), manifests.get(full_ids.get(run, "")))
        for run in files.keys() | full_ids.keys()
    ]
    return sorted(found, key=lambda one: one.begin)


def _found(run: str, full_id: str, files: list[str], path: Path | None) -> FoundRun:
    manifest, damage = None, None
    if path is not None:
        try:
            manifest = read_manifest(path)
        except UsageError as error:
            damage = str(error)
    starts = sorted(parsed.start for name in files if (parsed := parse_closed_file(name)))
    if manifest is not None:
        node, start = manifest.host.node_name, manifest.start.utc.translate({ord("-"): None, ord(":"): None})
    else:
        node = files[0].split("/")[2].removeprefix("identifier=") if files else "?"
        start = starts[0] if starts else ""
    return FoundRun(run, full_id, node, (start, run), files, manifest, damage)


def choose_runs(directory: Path, runs: Sequence[FoundRun], wanted: str) -> list[FoundRun]:
    """Those of `runs` that are meant by `wanted`: `last`, `all`, `newest` (of each node), or how an id begins.

    Raises UsageError, with what there is, where no run or more than one begins so.
    """
    with_files = [one for one in runs if one.files]
    if wanted == ALL:
        return with_files
    if wanted == LAST:
        return with_files[-1:]
    if wanted == NEWEST:
        return sorted({one.node: one for one in with_files}.values(), key=lambda one: one.begin)
    digits = wanted.lower().replace("-", "")
    # Without a manifest, there is no more of an id than its first digits.
    chosen = [one for one in runs if digits and one.full_id.startswith(_known(digits, one))]
    if len(chosen) != 1:
        raise UsageError(
            f"{'more than one' if chosen else 'no'} run begins with {wanted!r}; "
            f"there are: {listed(chosen or runs)} in {str(directory)!r} (or {LAST}, {ALL})"
        )
    if not chosen[0].files:
        raise UsageError(
            f"run {chosen[0].id} has no closed file yet; there are: {listed(with_files)} in {str(directory)!r}"
        )
    return chosen


def _known(digits: str, run: FoundRun) -> str:
    return digits[:ID_DIGITS] if len(run.full_id) == ID_DIGITS else digits


def choice_text(directory: Path, runs: Sequence[FoundRun], chosen: Sequence[FoundRun]) -> str | None:
    """What to say of runs that were left out without anybody's asking for one; None where there are none."""
    with_files = [one for one in runs if one.files]
    if len(chosen) == len(with_files):
        return None
    which = f"those of {len(with_files)} runs that recorded then are read"
    if chosen == choose_runs(directory, runs, NEWEST):
        of_nodes = "" if len(chosen) == 1 else " of each node"
        which = f"the newest of {len(with_files)} runs{of_nodes} is read"
    return f"{which}: {listed(chosen)} (DIR@RUN reads another, DIR@{ALL} all; `tracer runs DIR` lists them)"


def listed(runs: Sequence[FoundRun]) -> str:
    """Their ids, the oldest first; of very many the last ones."""
    ids = [one.id for one in runs]
    earlier = f"{len(ids) - _MOST_LISTED} earlier, " if len(ids) > _MOST_LISTED else ""
    return earlier + ", ".join(ids[-_MOST_LISTED:])
