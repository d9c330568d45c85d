# SPDX-License-Identifier: Apache-2.0
"""What of a run is safely in its object store, as a small file beside the run's manifest says.

    <output>/runs/<run_id>/upload.json

It is replaced atomically after each period. Without it, or with one of another URL, the manifests of the periods in the
object store say the same; only what was lost is not known then.
"""

import contextlib
from pathlib import Path, PurePath
from typing import Annotated, Final
from uuid import UUID

import msgspec

from tracer.store.directories import FILE_MODE, open_below
from tracer.store.files import write_atomically

_VERSION: Final = 1
_LONGEST: Final = 16 * 2**20

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Ranges = Annotated[str, msgspec.Meta(max_length=_LONGEST)]


class State(msgspec.Struct, kw_only=True):
    """Of one run and URL; sequence numbers of closed files, by table, are as `Sequences` has them as text.

    safe: of those that are uploaded whole. covered: by hour, of those of which that hour is uploaded, but another not.
    lost: by hour and table, the rows of files that were removed before, by sequence number; untold: hours whose
    manifest does not say so yet. session_sha256: of the run's manifest as it was uploaded last.
    """

    version: int = _VERSION
    url: str
    safe: dict[str, Ranges] = {}
    covered: dict[str, dict[str, Ranges]] = {}
    lost: dict[str, dict[str, dict[Count, Count]]] = {}
    untold: list[str] = []
    session_sha256: str = ""


def read_state(output: Path, run_id: UUID, url: str) -> State:
    """An empty one where there is none of that URL that can be believed. Raises OSError."""
    path = _path(run_id)
    with (
        contextlib.suppress(FileNotFoundError, ValueError, RecursionError),
        open_below(output, path.parent) as directory,
        directory.open_file(path.name) as file,
    ):
        state = msgspec.json.decode(file.read(_LONGEST), type=State)
        if state.version == _VERSION and state.url == url:
            return state
    return State(url=url)


def write_state(output: Path, run_id: UUID, state: State, *, mode: int = FILE_MODE) -> None:
    """`mode`: of the run's results. Raises OSError and ValueError; then it is as it was."""
    write_atomically(output, _path(run_id), msgspec.json.encode(state), mode=mode)


def _path(run_id: UUID) -> PurePath:
    return PurePath("runs", str(run_id), "upload.json")
