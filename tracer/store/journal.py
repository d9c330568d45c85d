# SPDX-License-Identifier: Apache-2.0
"""What a run that is killed leaves of the rows that are in no closed file yet.

    <output>/runs/<run_id>/journal/<table>-<sequence>.journal

There is a journal for each closed file to be, with that file's sequence number, so that whoever finds one knows whether
the file was closed before it could be removed: nothing is recovered twice. Rows are appended as they come, as frames:

    magic `TJ01` · lengths of the payload, as it is and before it was compressed, 4 bytes each · CRC-32 of both lengths
    and the payload, 4 bytes · payload, an Arrow IPC stream compressed by Zstandard

all little-endian. The kernel has what was written, so that only power loss, without `sync`, takes more than a torn last
frame. `open_runs` says whose journals are live.
"""

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Final, NamedTuple
from uuid import UUID

import pyarrow as pa

from tracer.store.directories import (
    FILE_MODE,
    PRIVATE_FILE_MODE,
    give_to_caller,
    open_below,
)
from tracer.store.layout import journal_directory

_MAGIC: Final = b"TJ01"
_HEAD: Final = Struct("<4sIII")
_LENGTHS: Final = Struct("<II")
# Of a journal that is believed: a frame is what came in a fraction of a second.
_LONGEST_PAYLOAD: Final = 2**28
_NAME: Final = re.compile(r"(?P<table>[a-z_]+)-(?P<sequence>[0-9]{6,19})\.journal")
_CODEC: Final = pa.Codec("zstd", compression_level=1)


class JournalName(NamedTuple):
    """What a journal's name says: the closed file that it is to become."""

    table: str
    sequence: int


class DamagedJournalError(ValueError):
    """A frame that was changed after it was written, or never was one."""


def parse_journal_name(name: str) -> JournalName | None:
    """None for what no run made."""
    match = _NAME.fullmatch(name)
    parsed = None if match is None else JournalName(match["table"], int(match["sequence"]))
    return parsed if parsed is not None and _file_name(*parsed) == name else None


class Journal:
    """The journal of one closed file to be. Whoever makes it closes it, and removes it once that file is on disk.

    rows: how many it has.
    """

    def __init__(
        self, output: Path, run_id: UUID, table: str, sequence: int, *, sync: bool, mode: int = FILE_MODE
    ) -> None:
        """`mode`: of the run's results. Raises OSError and ValueError."""
        self._name = _file_name(table, sequence)
        self.rows = 0
        self._sync = sync
        self._end = 0
        with open_below(output, journal_directory(run_id), make=True, mode=mode, private=True) as directory:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                self._descriptor = os.open(self._name, flags, 0o600, dir_fd=directory.descriptor)
            except FileExistsError:
                # The run's own, from before the directory was moved away and back.
                os.unlink(self._name, dir_fd=directory.descriptor)
                self._descriptor = os.open(self._name, flags, 0o600, dir_fd=directory.descriptor)
            try:
                give_to_caller(self._descriptor, directory.status, PRIVATE_FILE_MODE)
                if sync:
                    directory.sync()
            except OSError:
                os.close(self._descriptor)
                os.unlink(self._name, dir_fd=directory.descriptor)
                raise

    def append(self, rows: pa.Table) -> int:
        """Write a frame of these rows; returns its length. Raises OSError; then the journal is as it was before."""
        frame = encode_frame(rows)
        try:
            written = 0
            while written < len(frame):
                written += os.pwrite(self._descriptor, memoryview(frame)[written:], self._end + written)
            if self._sync:
                os.fdatasync(self._descriptor)
        except OSError:
            # What is there of a frame would be a torn one, after which nothing is read.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(frame)
        self.rows += rows.num_rows
        return len(frame)

    def close(self) -> None:
        """It stays there, to be recovered."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def remove_journal(output: Path, run_id: UUID, table: str, sequence: int) -> None:
    """Of a closed file that is on disk; nothing where there is none."""
    with suppress(OSError, ValueError), open_below(output, journal_directory(run_id)) as directory:
        os.unlink(_file_name(table, sequence), dir_fd=directory.descriptor)


def remove_journal_directory(output: Path, run_id: UUID) -> None:
    """Of a run without journals; nothing where there are some, or it is gone."""
    relative_path = journal_directory(run_id)
    with suppress(OSError, ValueError), open_below(output, relative_path.parent) as above:
        os.rmdir(relative_path.name, dir_fd=above.descriptor)


def encode_frame(rows: pa.Table) -> bytes:
    """A frame of these rows, with their schema."""
    # Without what the schema says of each column, which is longer than a few rows.
    plain = pa.table(rows.columns, names=rows.column_names).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as stream:
        stream.write_table(plain)
    content = sink.getvalue()
    payload: bytes = _CODEC.compress(content, asbytes=True)
    lengths = _LENGTHS.pack(len(payload), len(content))
    checksum = zlib.crc32(payload, zlib.crc32(lengths))
    return _HEAD.pack(_MAGIC, len(payload), len(content), checksum) + payload


def read_frames(journal: BinaryIO) -> Iterator[pa.Table]:
    """The rows of each whole frame. A torn last one is what a killed run leaves, and is left out.

    Raises DamagedJournalError after those before a frame that is not what was written; and OSError.
    """
    length = os.fstat(journal.fileno()).st_size
    at = 0
    while at < length:
        head = journal.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        magic, payload_length, content_length, checksum = _HEAD.unpack(head)
        if magic != _MAGIC or max(payload_length, content_length) > _LONGEST_PAYLOAD:
            # A file system may have made it longer, and not have had its data before the power went.
            if not any(head) and not _has_more(journal):
                return
            raise DamagedJournalError(f"no frame at byte {at}")
        payload = journal.read(payload_length)
        if len(payload) < payload_length:
            return
        at += _HEAD.size + payload_length
        if zlib.crc32(payload, zlib.crc32(_LENGTHS.pack(payload_length, content_length))) != checksum:
            if at >= length:
                return
            raise DamagedJournalError(f"a frame that ends at byte {at} is not what was written")
        try:
            with pa.ipc.open_stream(_CODEC.decompress(payload, content_length)) as stream:
                rows = stream.read_all()
            rows.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise DamagedJournalError(f"a frame that ends at byte {at}: {error}") from error
        yield rows


def _file_name(table: str, sequence: int) -> str:
    return f"{table}-{sequence:06}.journal"


def _has_more(journal: BinaryIO) -> bool:
    """Whether anything but zeros comes."""
    while part := journal.read(2**16):
        if any(part):
            return True
    return False
