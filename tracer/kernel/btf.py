# SPDX-License-Identifier: Apache-2.0
"""Where the fields of the running kernel's structs lie, from the type information it carries (BTF).

Layout: include/uapi/linux/btf.h and Documentation/bpf/btf.rst in the kernel. The file is in sysfs since Linux kernel
commit 341dfcf8d78e ("btf: expose BTF info through sysfs") (in v5.4), where the kernel is built with BTF.
"""

import struct
from collections.abc import Collection
from pathlib import Path

from tracer.errors import NodeUnsupportedError

KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
# magic, version, flags, hdr_len, type_off, type_len, str_off, str_len
_HEADER = struct.Struct("=HBBIIIII")
_STRUCT = 4
# What follows a type's three words, in words by kind: a constant, or a number for each of its members.
_FIXED_WORDS = {1: 1, 3: 3, 14: 1, 17: 1}
_MEMBER_WORDS = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}
_LAST_KIND = 19


def read_kernel_btf() -> bytes:
    """The running kernel's type information, about 5 MB. Raises NodeUnsupportedError where there is none."""
    try:
        return KERNEL_BTF.read_bytes()
    except OSError as error:
        raise NodeUnsupportedError(
            f"the kernel shows no type information ({KERNEL_BTF}: {error.strerror}); use one with CONFIG_DEBUG_INFO_BTF"
        ) from error


def member_offsets(btf: bytes, structs: Collection[str]) -> dict[str, dict[str, int]]:
    """Offset in bytes of each named member of these structs; one that is not found is absent.

    Members inside unnamed structs and unions are not looked for. Raises NodeUnsupportedError for what is not BTF of
    this machine's byte order, or has a kind of type that is not known here.
    """
    try:
        return _search(btf, structs)
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise NodeUnsupportedError(f"the kernel's type information cannot be read: {error}") from error


def _search(btf: bytes, structs: Collection[str]) -> dict[str, dict[str, int]]:
    magic, _version, _flags, header, types, types_length, strings, strings_length = _HEADER.unpack_from(btf)
    if magic != _MAGIC:
        raise ValueError("no BTF")
    names = btf[header + strings : header + strings + strings_length]
    words = memoryview(btf)[header + types : header + types + types_length].cast("I")
    # Strings are stored once, and end as they begin with a NUL.
    wanted = {names.index(b"\0" + name.encode() + b"\0") + 1: name for name in structs if _has(names, name)}
    found: dict[str, dict[str, int]] = {}
    place = 0
    while place < len(words) and len(found) < len(wanted):
        name, info = words[place], words[place + 1]
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        place += 3
        if kind == _STRUCT and name in wanted:
            found.setdefault(wanted[name], _members(names, words[place : place + 3 * count], bool(info >> 31)))
        if not 0 < kind <= _LAST_KIND:
            raise ValueError(f"unknown kind of type {kind}")
        place += _FIXED_WORDS.get(kind, 0) + _MEMBER_WORDS.get(kind, 0) * count
    return found


def _has(names: bytes, name: str) -> bool:
    return b"\0" + name.encode() + b"\0" in names


def _members(names: bytes, words: memoryview, has_bit_fields: bool) -> dict[str, int]:
    """Of each member three words: its name, its type and its offset in bits, below a bit field's size in 8 bits."""
    offsets = {}
    for name, bits in zip(words[0::3], words[2::3], strict=True):
        offsets[names[name : names.index(b"\0", name)].decode()] = (bits & 0xFFFFFF if has_bit_fields else bits) // 8
    return offsets
