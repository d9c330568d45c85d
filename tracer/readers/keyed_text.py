# SPDX-License-Identifier: Apache-2.0
"""Reads and parses the small text files of many cgroups in one call: compiled by numba, without the GIL.

Five hundred cgroups have twenty thousand keys a second; an object in Python for each would cost more than the kernel
takes to write them. The C library's calls are resolved by name, so that the compiled code can be cached.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from numba import njit, types

# Formats of a file, as numbers.
WORDS, FLAT, PRESSURE, DEVICES = range(4)

# What `valid` says of a value, or of a sum.
MISSING_VALUE, VALID, TOO_LARGE = range(3)

# What stands in the place of a descriptor.
CLOSED, MISSING = -1, -2

_ALONE, _ADDED, _LEFT_OUT = range(3)

# A slot of keys that are known and left out.
LEFT_OUT = -1

# Places in the counts.
KEPT_OPEN, UNKNOWN_KEYS = range(2)

KEY_BYTES = 64
"""Longest key, with its file's number before it and its length after it, that is told of as unknown."""

_CLOCK_MONOTONIC = 1
_O_RDONLY_CLOEXEC = 0o2000000
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_LARGEST = np.uint64(0xFFFFFFFFFFFFFFFF)
_NEWLINE, _BLANK, _EQUALS, _POINT, _ZERO, _NINE, _COLON, _OPENING = b"\n =.09:("
_NAMELESS = tuple(b"(unknown)")
_NOT_KNOWN = -2

_openat = types.ExternalFunction("openat", types.int32(types.int32, types.intp, types.int32))
_pread = types.ExternalFunction("pread", types.intp(types.int32, types.intp, types.intp, types.int64))
_close = types.ExternalFunction("close", types.int32(types.int32))
_clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))

_U8 = types.uint8[::1]
_I32 = types.int32[::1]
_I64 = types.int64[::1]
_KEYS = (types.uint64[::1], _I32)  # hashes by place, slots by place
_VALUES = (types.uint64[:, ::1], types.uint8[:, ::1])  # values and what is to be said of them, as [slot, row]
_UNKNOWN = (types.uint8[:, ::1], _I64)  # unknown keys, counts


def key_hash(file: int, key: bytes) -> int:
    """FNV-1a of a file's number and a key, as `parse_text` computes it."""
    value = int(_FNV_OFFSET)
    for byte in (file, *key):
        value = ((value ^ byte) * int(_FNV_PRIME)) & 0xFFFFFFFFFFFFFFFF
    return value


_UNKNOWN_DEVICE, _NO_DEVICE = -1, -2
_DIGITS = 9


def device_numbers(devices: Iterable[str]) -> npt.NDArray[np.int64]:
    """Devices, as major:minor or `(unknown)`, in the form in which `parse_text` leaves them out."""
    numbers: set[int] = set()
    for device in devices:
        major, _, minor = device.partition(":")
        numbers.add((int(major) << 32) + int(minor) if minor else _UNKNOWN_DEVICE)
    return np.array(sorted(numbers), np.int64)


def key_table(slots: dict[int, int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Hashes and slots by place, open addressing, for `slots` by `key_hash`."""
    size = 1 << (4 * len(slots) + 4).bit_length()
    hashes = np.zeros(size, np.uint64)
    places = np.full(size, _NOT_KNOWN, np.int32)
    for value, slot in slots.items():
        place = value & (size - 1)
        while places[place] != _NOT_KNOWN:
            place = (place + 1) & (size - 1)
        hashes[place] = value
        places[place] = slot
    return hashes, places


@njit(types.uint64(types.uint64, types.uint8), nogil=True, cache=True)
def _hash_byte(value, byte):  # type: ignore[no-untyped-def]
    return (value ^ np.uint64(byte)) * _FNV_PRIME


@njit(types.int64(_U8, types.int64, types.int64), nogil=True, cache=True)
def _device_number(text, start, end):  # type: ignore[no-untyped-def]
    """Of major:minor or `(unknown)` at text[start:end]; _NO_DEVICE for anything else."""
    if text[start] == _OPENING:
        if end - start != len(_NAMELESS):
            return _NO_DEVICE
        for place in range(len(_NAMELESS)):
            if text[start + place] != _NAMELESS[place]:
                return _NO_DEVICE
        return _UNKNOWN_DEVICE
    major = np.int64(-1)
    number = np.int64(0)
    digits = 0
    for position in range(start, end):
        byte = text[position]
        if byte == _COLON and major < 0 and digits > 0:
            major = number
            number = np.int64(0)
            digits = 0
        elif _ZERO <= byte <= _NINE and digits < _DIGITS:
            number = number * 10 + np.int64(byte - _ZERO)
            digits += 1
        else:
            return _NO_DEVICE
    return (major << 32) + number if major >= 0 and digits > 0 else _NO_DEVICE


@njit(types.boolean(_I64, types.int64), nogil=True, cache=True)
def _is_in(ascending, number):  # type: ignore[no-untyped-def]
    place = np.searchsorted(ascending, number)
    return place < len(ascending) and ascending[place] == number


@njit(
    types.void(
        types.uint64, _U8, types.int64, types.int64, types.int64, types.int64, types.int64, types.int64, types.int64,
        types.int64, *_KEYS, *_VALUES, _U8, *_UNKNOWN,
    ),
    nogil=True, cache=True, error_model="numpy",
)  # fmt: skip
def _take(  # type: ignore[no-untyped-def]
    hashed, text, name, name_end, key, key_end, value, value_end, how,
    row, key_hashes, key_slots, values, valid, scales, unknown, counts,
):  # fmt: skip
    """Puts the value at text[value:value_end] into the slot of its key; a key of no slot is told of in `unknown`.

    A value is a number of decimal digits below 2^64; of a slot with `scales`, one with a fraction, of which two digits
    are taken, in hundredths. Anything else, as `max`, is not valid. `how` it is put there: _ALONE, added to what is
    there (_ADDED), or as a zero that is added (_LEFT_OUT).
    """
    mask = len(key_hashes) - 1
    at = np.int64(hashed & np.uint64(mask))
    while key_slots[at] != _NOT_KNOWN and key_hashes[at] != hashed:
        at = (at + 1) & mask
    slot = key_slots[at]
    number = np.uint64(0)
    digits = 0
    decimals = -1
    for position in range(value, value_end):
        byte = text[position]
        if byte == _POINT and decimals < 0 and digits > 0:
            decimals = 0
            continue
        if byte < _ZERO or byte > _NINE:
            return
        if decimals == 2:
            continue
        digit = np.uint64(byte - _ZERO)
        if number > (_LARGEST - digit) // np.uint64(10):
            return
        number = number * np.uint64(10) + digit
        digits += 1
        if decimals >= 0:
            decimals += 1
    if digits == 0:
        return
    if slot == _NOT_KNOWN:
        length = name_end - name + key_end - key + (1 if name_end > name else 0)
        if decimals < 0 and counts[UNKNOWN_KEYS] < len(unknown) and 0 < length <= KEY_BYTES - 2:
            told = unknown[counts[UNKNOWN_KEYS]]
            told[KEY_BYTES - 1] = length
            place = 1
            for position in range(name, name_end):
                told[place] = text[position]
                place += 1
            if name_end > name:
                told[place] = _POINT
                place += 1
            for position in range(key, key_end):
                told[place] = text[position]
                place += 1
            counts[UNKNOWN_KEYS] += 1
        return
    if slot == LEFT_OUT:
        return
    if scales[slot]:
        for _ in range(2 - max(decimals, 0)):
            if number > _LARGEST // np.uint64(10):
                return
            number *= np.uint64(10)
    elif decimals >= 0:
        return
    if how == _LEFT_OUT:
        number = np.uint64(0)
    if how != _ALONE and valid[slot, row] != MISSING_VALUE:
        if valid[slot, row] == TOO_LARGE or number > _LARGEST - values[slot, row]:
            valid[slot, row] = TOO_LARGE
            return
        number += values[slot, row]
    values[slot, row] = number
    valid[slot, row] = VALID


@njit(
    types.void(
        types.int64, types.int64, _U8, types.int64, types.int64, _I64, *_KEYS, *_VALUES, _U8, *_UNKNOWN,
    ),
    nogil=True, cache=True, error_model="numpy",
)  # fmt: skip
def parse_text(  # type: ignore[no-untyped-def]
    file, format_, text, end, row, left_out, key_hashes, key_slots, values, valid, scales, unknown, counts
):
    """Puts what text[:end] says into column `row` of `values` and `valid`. Lines that are malformed are left out.

    So is, of DEVICES, what is of a device in `left_out` (ascending), but for a zero. A line's values are of the device
    that stands right before them: kernels from v5.15 on, until it was mended, wrote devices without any before it.
    """
    seed = _hash_byte(_FNV_OFFSET, np.uint8(file))
    position = 0
    while position < end:
        # The line's first word is its name or key, or, of WORDS, the first value.
        word = 0
        name = position
        name_end = position
        named = seed
        device = _NO_DEVICE
        while position < end and text[position] != _NEWLINE:
            start = position
            equals = -1
            hashed = named if word > 0 and format_ == PRESSURE else seed
            while position < end and text[position] != _BLANK and text[position] != _NEWLINE:
                byte = text[position]
                if byte == _EQUALS and equals < 0:
                    equals = position
                if equals < 0:
                    hashed = _hash_byte(hashed, byte)
                position += 1
            before = counts[UNKNOWN_KEYS]
            if position == start:
                position += 1
                continue
            if format_ == WORDS:
                _take(
                    _hash_byte(seed, np.uint8(_ZERO + word)), text, start, start, start, start, start, position, _ALONE,
                    row, key_hashes, key_slots, values, valid, scales, unknown, counts,
                )  # fmt: skip
            elif format_ == DEVICES and equals < 0:
                device = _device_number(text, start, position)
            elif word == 0:
                name_end = position
                named = hashed if format_ == FLAT else _hash_byte(hashed, np.uint8(_POINT))
            elif format_ == FLAT:
                if word == 1:
                    _take(
                        named, text, name, name, name, name_end, start, position, _ALONE,
                        row, key_hashes, key_slots, values, valid, scales, unknown, counts,
                    )  # fmt: skip
            elif equals >= 0 and (format_ == PRESSURE or device != _NO_DEVICE):
                of_name = name_end if format_ == PRESSURE else name
                how = _ALONE
                if format_ == DEVICES:
                    how = _LEFT_OUT if _is_in(left_out, device) else _ADDED
                _take(
                    hashed, text, name, of_name, start, equals, equals + 1, position, how,
                    row, key_hashes, key_slots, values, valid, scales, unknown, counts,
                )  # fmt: skip
            if counts[UNKNOWN_KEYS] > before:
                unknown[before, 0] = file
            word += 1
            if position < end and text[position] == _BLANK:
                position += 1
        position += 1


@njit(
    types.void(
        _I64, _I32, types.int32[:, ::1], _U8, _I64, _I32, _U8, _U8, types.int64, _I64, _U8, _U8, _I32, _I64, *_KEYS,
        *_VALUES, _U8, *_UNKNOWN,
    ),
    nogil=True, cache=True, error_model="numpy",
)  # fmt: skip
def read_rows(  # type: ignore[no-untyped-def]
    rows, directories, files, names, name_starts, formats, keeps, reads_settings,
    keep_at_most, monotonic_ns, was_read, buffer, slot_files, left_out, key_hashes, key_slots, values, valid, scales,
    unknown, counts,
):  # fmt: skip
    """Reads the files of `rows`.

    `directories` and `files` are descriptors by row; `names` the files' names, each ended by a zero byte, from
    `name_starts` on; `keeps` says which files stay open (as long as no more than `keep_at_most` do) and are read each
    time. Where `reads_settings` is set, the others are read too, and files are looked for that were MISSING: that could
    not be opened or read. `was_read` is set for the rows of which any file could be read.
    """
    time = np.zeros(2, np.int64)
    for row in rows:
        _clock_gettime(_CLOCK_MONOTONIC, time.ctypes.data)
        monotonic_ns[row] = time[0] * 1_000_000_000 + time[1]
        was_read[row] = 0
        for slot in range(len(slot_files)):
            if keeps[slot_files[slot]] or reads_settings[row]:
                valid[slot, row] = MISSING_VALUE
        for file in range(len(formats)):
            if not keeps[file] and not reads_settings[row]:
                continue
            descriptor = files[row, file]
            if descriptor == MISSING and not reads_settings[row]:
                continue
            is_open = descriptor >= 0
            if not is_open:
                descriptor = _openat(directories[row], names.ctypes.data + name_starts[file], _O_RDONLY_CLOEXEC)
                if descriptor < 0:
                    files[row, file] = MISSING
                    continue
            size = _pread(descriptor, buffer.ctypes.data, len(buffer), 0)
            if size >= 0 and keeps[file] and (is_open or counts[KEPT_OPEN] < keep_at_most):
                files[row, file] = descriptor
                if not is_open:
                    counts[KEPT_OPEN] += 1
            else:
                _close(descriptor)
                files[row, file] = CLOSED if size >= 0 else MISSING
                if is_open:
                    counts[KEPT_OPEN] -= 1
            if size >= 0:
                was_read[row] = 1
                if size == len(buffer):
                    # There may be more: the last line is not whole.
                    while size > 0 and buffer[size - 1] != _NEWLINE:
                        size -= 1
                parse_text(
                    file, formats[file], buffer, size, row, left_out,
                    key_hashes, key_slots, values, valid, scales, unknown, counts,
                )  # fmt: skip
