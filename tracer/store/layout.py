# SPDX-License-Identifier: Apache-2.0
"""Where things lie in an output directory, and which of them are ours.

    <output>/<table>/dt=YYYY-MM-DD/identifier=<identifier>/<table>-<UTC start>-<run8>-<sequence>.parquet
    <output>/runs/<run_id>/session.json
    <output>/runs/<run_id>/journal/<table>-<sequence>.journal

The run's id is in every name, so runs that write into one output never meet. A file that is still being
written has the suffix `IN_PROGRESS` after its name, which no `*.parquet` glob matches.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Final
from uuid import UUID

from tracer.errors import UsageError

IN_PROGRESS: Final = ".inprogress"

# With `identifier=` before it, or a run's digits and `.json` after it (as of a period), it is no longer than the 255
# bytes that Linux file systems allow for a name.
_LONGEST_VALUE = 241
# Readers take it for null, also where it is escaped.
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_UNSAFE = re.compile(rb"[^A-Za-z0-9_.-]")
_CLOSED_FILE = re.compile(
    r"(?P<table>[a-z_]+)/dt=(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})/identifier=[^/]+/"
    r"(?P=table)-(?P<start>[0-9]{8}T[0-9]{6}Z)-[0-9a-f]{8}-(?P<sequence>[0-9]{6,19})\.parquet"
)


def partition_value(identifier: str) -> str:
    """`identifier` as one safe directory name: letters, digits and `_.-`; other bytes as `%XX`, like Hive.

    Readers of Hive partitions give the original back. Raises UsageError for what none could give back: nothing,
    Hive's word for null, and what is too long for a directory's name.
    """
    # A command line that is not UTF-8 arrives as lone surrogates, which no encoder takes.
    raw = identifier.encode("utf-8", "backslashreplace")
    value = _UNSAFE.sub(lambda byte: b"%%%02X" % byte[0][0], raw).decode("ascii")
    if not value:
        raise UsageError("the identifier must not be empty")
    if value == _HIVE_NULL:
        raise UsageError(f"the identifier must not be {_HIVE_NULL}: it means null to all that read the files")
    if len(value) > _LONGEST_VALUE:
        raise UsageError(
            f"the identifier {identifier[:20]!r}... takes {len(value)} bytes as part of a directory's name, in which "
            f"letters, digits and _.- take one and others three; {_LONGEST_VALUE} are allowed"
        )
    return value.replace(".", "%2E") if value in (".", "..") else value


def file_path(output: Path, table: str, partition: str, start_ns: int, run_id: UUID, sequence: int) -> Path:
    """The path of a closed file.

    `partition`: from `partition_value`; `start_ns`: UTC time of the first row, ns since the epoch.
    """
    start = datetime.fromtimestamp(start_ns // 10**9, UTC)
    name = f"{table}-{start:%Y%m%dT%H%M%SZ}-{run_id.hex[:8]}-{sequence:06}.parquet"
    return output / table / f"dt={start:%Y-%m-%d}" / f"identifier={partition}" / name


def manifest_path(output: Path, run_id: UUID) -> Path:
    """The path of a run's manifest."""
    return output / "runs" / str(run_id) / "session.json"


def journal_directory(run_id: UUID) -> PurePath:
    """Below the output: where a run's journals are, and what is locked while it is written (`open_runs`)."""
    return PurePath("runs", str(run_id), "journal")


@dataclass(frozen=True, order=True)
class ClosedFileName:
    """A closed file's age, as its name tells it; they sort from old to new."""

    start: str
    sequence: int
    relative_path: str

    @property
    def table(self) -> str:
        """Its first directory, too."""
        return self.relative_path.partition("/")[0]

    @property
    def run(self) -> str:
        """The first digits of the run's id."""
        return self.relative_path.rpartition("/")[2].split("-")[2]


def parse_closed_file(relative_path: str) -> ClosedFileName | None:
    """What a path relative to the output says; None unless `file_path` could have made it."""
    match = _CLOSED_FILE.fullmatch(relative_path)
    if match is None or match["day"].replace("-", "") != match["start"][:8]:
        return None
    return ClosedFileName(match["start"], int(match["sequence"]), relative_path)
