# SPDX-License-Identifier: Apache-2.0
"""The files of many cgroups, kept open, and read and parsed in one compiled call."""

import os
from collections.abc import Collection
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from tracer.readers import keyed_text
from tracer.readers.cgroup_keys import AVERAGE_COLUMNS, FILES

COLUMNS: Final = tuple(column for file in FILES for column in file.columns.values())
"""Columns in the order of `Values`."""

_FORMATS = {
    "words": keyed_text.WORDS,
    "flat": keyed_text.FLAT,
    "pressure": keyed_text.PRESSURE,
    "devices": keyed_text.DEVICES,
}
# Enough for io.stat of a thousand devices, the longest.
_BUFFER_BYTES = 256 << 10
_EXTRA_KEYS = 64
_FIRST_CAPACITY = 64
_Item = TypeVar("_Item", bound=np.generic)


class Values(NamedTuple):
    """What was found; only cgroups of which any file could be read are in it. Arrays are copies."""

    cgroup_ids: npt.NDArray[np.uint64]
    monotonic_ns: npt.NDArray[np.int64]
    """CLOCK_MONOTONIC at which a cgroup's files were read, before the first."""
    values: npt.NDArray[np.uint64]
    """As [column, cgroup]: first COLUMNS, then the extra keys. Averages are in hundredths."""
    is_valid: npt.NDArray[np.bool_]
    extra: tuple[str, ...]
    """Keys that `cgroup_keys` does not know, as `<file>.<key>`."""


class CgroupFiles:
    """Keeps directories open, and files that change as long as there are not too many. One thread uses it.

    A cgroup that is gone gives no values; its descriptors stay until `close`.
    """

    def __init__(self, root: bytes, *, keep_open_at_most: int) -> None:
        """`root`: where the cgroup2 tree is mounted. `keep_open_at_most`: files, beside the directories."""
        self._root = root.rstrip(b"/")
        self._keep_open_at_most = keep_open_at_most
        lengths = [len(file.name) + 1 for file in FILES]
        self._names = np.frombuffer(b"".join(file.name.encode() + b"\0" for file in FILES), np.uint8).copy()
        self._name_starts = np.cumsum([0, *lengths[:-1]], dtype=np.int64)
        self._formats = np.array([_FORMATS[file.format] for file in FILES], np.int32)
        self._keeps = np.array([not file.is_setting for file in FILES], np.uint8)

        slots = len(COLUMNS) + _EXTRA_KEYS
        by_slot = [(number, key) for number, file in enumerate(FILES) for key in file.columns]
        self._slots = {keyed_text.key_hash(number, key.encode()): slot for slot, (number, key) in enumerate(by_slot)}
        self._slot_files = np.array([number for number, _key in by_slot] + [0] * _EXTRA_KEYS, np.int32)
        self._scales = np.array([column in AVERAGE_COLUMNS for column in COLUMNS] + [False] * _EXTRA_KEYS, np.uint8)
        self._extra: list[str] = []
        self._keys = keyed_text.key_table(self._slots)
        self._unknown = np.zeros((_EXTRA_KEYS, keyed_text.KEY_BYTES), np.uint8)
        self._counts = np.zeros(2, np.int64)
        self._buffer = np.empty(_BUFFER_BYTES, np.uint8)

        self._rows: dict[int, int] = {}
        self._free_rows = list(range(_FIRST_CAPACITY))
        self._cgroup_ids = np.zeros(_FIRST_CAPACITY, np.uint64)
        self._directories = np.zeros(_FIRST_CAPACITY, np.int32)
        self._files = np.zeros((_FIRST_CAPACITY, len(FILES)), np.int32)
        self._monotonic_ns = np.zeros(_FIRST_CAPACITY, np.int64)
        self._was_read = np.zeros(_FIRST_CAPACITY, np.uint8)
        self._values = np.zeros((slots, _FIRST_CAPACITY), np.uint64)
        self._is_valid = np.zeros((slots, _FIRST_CAPACITY), np.uint8)

    def __contains__(self, cgroup_id: int) -> bool:
        return cgroup_id in self._rows

    @property
    def cgroup_ids(self) -> list[int]:
        """Those that are open."""
        return list(self._rows)

    def open(self, cgroup_id: int, path: str) -> None:
        """Opens a cgroup's directory. Raises OSError, also where the path leads to another cgroup by now."""
        directory = os.open(self._root + os.fsencode(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if os.fstat(directory).st_ino != cgroup_id:
            os.close(directory)
            raise FileNotFoundError(path)
        if not self._free_rows:
            self._double()
        row = self._free_rows.pop()
        self._rows[cgroup_id] = row
        self._cgroup_ids[row] = cgroup_id
        self._directories[row] = directory
        self._files[row] = keyed_text.CLOSED
        self._is_valid[:, row] = keyed_text.MISSING_VALUE

    def close(self, cgroup_id: int) -> None:
        """Closes a cgroup's directory and files."""
        row = self._rows.pop(cgroup_id)
        self._free_rows.append(row)
        for descriptor in (*self._files[row].tolist(), int(self._directories[row])):
            if descriptor >= 0:
                os.close(descriptor)
        self._counts[keyed_text.KEPT_OPEN] -= int((self._files[row] >= 0).sum())

    def read(self, cgroup_ids: list[int], *, with_settings: list[int], without_devices: Collection[str] = ()) -> None:
        """Reads what changes of `cgroup_ids`, which are open, and all files of those that are in `with_settings`.

        Settings that are not read are those of the last time. Sums over devices are without those given, as
        major:minor; one of another form stands for all that have no numbers.
        """
        left_out = keyed_text.device_numbers(without_devices)
        rows = np.array([self._rows[cgroup_id] for cgroup_id in cgroup_ids], np.int64)
        reads_settings = np.zeros(len(self._cgroup_ids), np.uint8)
        reads_settings[[self._rows[cgroup_id] for cgroup_id in with_settings]] = 1
        # Again if there were new keys, which are the same in all cgroups; all of them are found in a few turns.
        for _attempt in range(_EXTRA_KEYS):
            self._counts[keyed_text.UNKNOWN_KEYS] = 0
            keyed_text.read_rows(
                rows, self._directories, self._files, self._names, self._name_starts, self._formats, self._keeps,
                reads_settings, self._keep_open_at_most, self._monotonic_ns, self._was_read, self._buffer,
                self._slot_files, left_out, *self._keys, self._values, self._is_valid, self._scales, self._unknown,
                self._counts,
            )  # fmt: skip
            if not self._counts[keyed_text.UNKNOWN_KEYS]:
                break
            self._learn_keys()

    def values(self, cgroup_ids: list[int]) -> Values:
        """What was read of these, which are open, the last time."""
        rows = np.array([self._rows[cgroup_id] for cgroup_id in cgroup_ids], np.int64)
        rows = rows[self._was_read[rows] != 0]
        slots = slice(len(COLUMNS) + len(self._extra))
        return Values(
            self._cgroup_ids[rows],
            self._monotonic_ns[rows],
            self._values[slots, rows],
            self._is_valid[slots, rows] == keyed_text.VALID,
            tuple(self._extra),
        )

    def _learn_keys(self) -> None:
        """Gives keys that were met for the first time a place among the extra ones, as long as there are any."""
        for number, *rest in self._unknown[: self._counts[keyed_text.UNKNOWN_KEYS]].tolist():
            key = bytes(rest[: rest[-1]])
            hashed = keyed_text.key_hash(number, key)
            if hashed in self._slots:
                continue
            text = key.decode(errors="backslashreplace")
            if text.startswith(FILES[number].ignored_prefixes) or len(self._extra) == _EXTRA_KEYS:
                self._slots[hashed] = keyed_text.LEFT_OUT
            else:
                slot = len(COLUMNS) + len(self._extra)
                self._slots[hashed] = slot
                self._slot_files[slot] = number
                self._extra.append(f"{FILES[number].name}.{text}")
        self._keys = keyed_text.key_table(self._slots)

    def _double(self) -> None:
        capacity = len(self._cgroup_ids)
        self._free_rows += range(capacity, 2 * capacity)
        self._cgroup_ids = _doubled(self._cgroup_ids)
        self._directories = _doubled(self._directories)
        self._files = _doubled(self._files)
        self._monotonic_ns = _doubled(self._monotonic_ns)
        self._was_read = _doubled(self._was_read)
        self._values = _doubled(self._values, axis=1)
        self._is_valid = _doubled(self._is_valid, axis=1)


def _doubled(array: npt.NDArray[_Item], axis: int = 0) -> npt.NDArray[_Item]:
    return np.concatenate([array, np.zeros_like(array)], axis=axis)
