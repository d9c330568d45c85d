# SPDX-License-Identifier: Apache-2.0
"""Which closed files of an output are safely in its object store; whoever removes or uploads files asks here."""

import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final
from uuid import UUID

from tracer.store.directories import FILE_MODE, open_below
from tracer.store.hours import hour_text, parse_hour
from tracer.store.layout import ClosedFileName
from tracer.store.upload.sequences import Sequences
from tracer.store.upload.state import State, read_state, write_state

_NONE: Final = Sequences()


@dataclass
class _Run:
    """A run's state, as it is asked for."""

    safe: dict[str, Sequences] = field(default_factory=dict)
    covered: dict[int, dict[str, Sequences]] = field(default_factory=dict)
    lost: dict[int, dict[str, dict[int, int]]] = field(default_factory=dict)
    untold: set[int] = field(default_factory=set)
    session_sha256: str = ""


class Uploads:
    """Of one output and URL. Any thread may call any method; states are read when they are first asked for."""

    def __init__(self, output: Path, url: str, *, mode: int = FILE_MODE) -> None:
        """`mode`: of the results."""
        self._output = output
        self._url = url
        self._mode = mode
        self._runs: dict[UUID, _Run] = {}
        self._ids: dict[str, list[UUID]] = {}
        self._lock = threading.Lock()

    def is_safe(self, name: ClosedFileName) -> bool:
        """Whether all its rows are in the object store, and whoever reads there finds them."""
        with self._lock:
            runs = self._ids_of(name.run)
            # Which of two with the same first digits it is of, its name does not say.
            return len(runs) == 1 and name.sequence in self._of(runs[0]).safe.get(name.table, _NONE)

    def lose(self, name: ClosedFileName, run_id: UUID, rows: Mapping[int, int]) -> int:
        """A file is removed that is not safe, of which it had so many `rows` of each hour; how many are lost."""
        total = 0
        with self._lock:
            run = self._of(run_id)
            for hour, count in rows.items():
                if name.sequence not in run.covered.get(hour, {}).get(name.table, _NONE):
                    run.lost.setdefault(hour, {}).setdefault(name.table, {})[name.sequence] = count
                    run.untold.add(hour)
                    total += count
            with suppress(OSError, ValueError):
                self._save(run_id, run)
        return total

    def is_covered(self, run_id: UUID, hour: int, name: ClosedFileName) -> bool:
        """Whether what the file has of that hour is in the object store."""
        with self._lock:
            return name.sequence in self._of(run_id).covered.get(hour, {}).get(name.table, _NONE)

    def cover(self, run_id: UUID, hour: int, table: str, sequences: Sequences) -> None:
        """What these files have of that hour is in the object store now, its manifest too."""
        with self._lock:
            run = self._of(run_id)
            covered = run.covered.setdefault(hour, {}).setdefault(table, Sequences())
            for first, last in sequences.ranges:
                covered.add(first, last)
            lost = run.lost.get(hour, {}).get(table, {})
            for sequence in [one for one in lost if one in covered]:
                # It was removed while it was on its way.
                del lost[sequence]
                run.untold.add(hour)

    def settle(self, run_id: UUID, name: ClosedFileName) -> None:
        """All of that file is in the object store."""
        with self._lock:
            self._of(run_id).safe.setdefault(name.table, Sequences()).add(name.sequence)

    def lost_of(self, run_id: UUID, hour: int) -> dict[str, int]:
        """Rows by table."""
        with self._lock:
            lost = self._of(run_id).lost.get(hour, {})
            return {table: sum(rows.values()) for table, rows in lost.items() if rows}

    def knows_lost(self, run_id: UUID, hour: int) -> bool:
        """Whether something was ever lost of that hour, as far as is known here."""
        with self._lock:
            return hour in self._of(run_id).lost

    def untold(self, run_id: UUID) -> list[int]:
        """Hours whose manifest does not have what is lost yet."""
        with self._lock:
            return sorted(self._of(run_id).untold)

    def told(self, run_id: UUID, hour: int) -> None:
        """The hour's manifest has it."""
        with self._lock:
            self._of(run_id).untold.discard(hour)

    def session_sha256(self, run_id: UUID) -> str:
        """Of the run's manifest as it is in the object store; empty if it is not known to be there."""
        with self._lock:
            return self._of(run_id).session_sha256

    def save(
        self, run_id: UUID, *, session_sha256: str | None = None, needed_hours: Collection[int] | None = None
    ) -> None:
        """Writes down what is known, and forgets the coverage of all hours but those. Raises OSError and ValueError."""
        with self._lock:
            run = self._of(run_id)
            if session_sha256 is not None:
                run.session_sha256 = session_sha256
            if needed_hours is not None:
                run.covered = {hour: covered for hour, covered in run.covered.items() if hour in needed_hours}
            self._save(run_id, run)

    def _save(self, run_id: UUID, run: _Run) -> None:
        state = State(
            url=self._url,
            safe=_as_text(run.safe),
            covered={hour_text(hour): _as_text(covered) for hour, covered in run.covered.items()},
            lost={hour_text(hour): lost for hour, lost in run.lost.items()},
            untold=[hour_text(hour) for hour in sorted(run.untold)],
            session_sha256=run.session_sha256,
        )
        write_state(self._output, run_id, state, mode=self._mode)

    def _of(self, run_id: UUID) -> _Run:
        if run_id not in self._runs:
            self._runs[run_id] = self._read(run_id)
        return self._runs[run_id]

    def _read(self, run_id: UUID) -> _Run:
        # What cannot be read is found out anew, from the object store.
        with suppress(OSError, ValueError):
            state = read_state(self._output, run_id, self._url)
            return _Run(
                safe=_as_sequences(state.safe),
                covered={parse_hour(hour): _as_sequences(texts) for hour, texts in state.covered.items()},
                lost={parse_hour(hour): lost for hour, lost in state.lost.items()},
                untold={parse_hour(hour) for hour in state.untold},
                session_sha256=state.session_sha256,
            )
        return _Run()

    def _ids_of(self, digits: str) -> list[UUID]:
        if digits not in self._ids:
            found = []
            with suppress(OSError, ValueError), open_below(self._output, PurePath("runs")) as runs:
                for name in runs.names():
                    with suppress(ValueError):
                        if name.startswith(digits):
                            found.append(UUID(name))
            if not found:
                # It may come yet.
                return []
            self._ids[digits] = found
        return self._ids[digits]


def _as_text(sequences: Mapping[str, Sequences]) -> dict[str, str]:
    return {table: str(numbers) for table, numbers in sequences.items()}


def _as_sequences(texts: Mapping[str, str]) -> dict[str, Sequences]:
    return {table: Sequences.parse(text) for table, text in texts.items()}
