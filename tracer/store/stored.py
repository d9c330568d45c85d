# SPDX-License-Identifier: Apache-2.0
"""What a store has done, and what is there of it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from tracer.store.gone import Gone
from tracer.store.retention import Removed


@dataclass
class StoreTotals:
    """What a store has done so far: rows, files and bytes written by table.

    lost: rows that were dropped. rows_in_journals: that are in no file, by table, but `recover` can make one of them.
    removed: files of any run that retention removed; they stay in the other counts. bytes_waiting: in memory, as rows
    or as files that cannot be written now.
    """

    rows: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    lost: Gone = field(default_factory=Gone)
    rows_in_journals: dict[str, int] = field(default_factory=dict)
    removed: Removed = field(default_factory=Removed)
    bytes_waiting: int = 0

    @property
    def rows_lost(self) -> dict[str, int]:
        """By table."""
        return dict(self.lost.rows)

    @property
    def files_removed(self) -> int:
        """Of any run."""
        return self.removed.files


class Present(NamedTuple):
    """What of a run is there now: `rows` by table, in closed files; and these files and their bytes."""

    rows: dict[str, int]
    files: int
    bytes: int
