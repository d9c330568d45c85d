# SPDX-License-Identifier: Apache-2.0
"""Offsets from type information that the tests put together by the published layout."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import NodeUnsupportedError
from tracer.kernel.btf import member_offsets

STRUCT, UNION, BIT_FIELDS = 4, 5, 1 << 31
# Of each other kind: how many members it may have, words that follow it, words that follow for each member.
OTHER_KINDS = {
    1: (0, 1, 0),  # INT
    2: (0, 0, 0),  # PTR
    3: (0, 3, 0),  # ARRAY
    6: (9, 0, 2),  # ENUM
    7: (0, 0, 0),  # FWD
    8: (0, 0, 0),  # TYPEDEF
    9: (0, 0, 0),  # VOLATILE
    10: (0, 0, 0),  # CONST
    11: (0, 0, 0),  # RESTRICT
    12: (0, 0, 0),  # FUNC
    13: (9, 0, 2),  # FUNC_PROTO
    14: (0, 1, 0),  # VAR
    15: (9, 0, 3),  # DATASEC
    16: (0, 0, 0),  # FLOAT
    17: (0, 1, 0),  # DECL_TAG
    18: (0, 0, 0),  # TYPE_TAG
    19: (9, 0, 3),  # ENUM64
}


class BtfBuilder:
    """Types in the order in which they are added."""

    def __init__(self) -> None:
        self.strings = b"\0"
        self.types = b""

    def name(self, text: str) -> int:
        """Offset of a string, which is stored once."""
        entry = b"\0" + text.encode() + b"\0"
        if entry not in self.strings:
            self.strings += entry[1:]
        return self.strings.index(entry) + 1

    def add(self, kind: int, name: str, words: list[int], members: int = 0, flag: int = 0) -> None:
        words = [self.name(name), flag | kind << 24 | members, 0, *words]
        self.types += struct.pack(f"={len(words)}I", *words)

    def add_struct(self, name: str, members: list[tuple[str, int]], kind: int = STRUCT, flag: int = 0) -> None:
        words = [word for member, offset in members for word in (self.name(member), 7, offset)]
        self.add(kind, name, words, len(members), flag)

    def build(self) -> bytes:
        sections = (0, len(self.types), len(self.types), len(self.strings))
        return struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, *sections) + self.types + self.strings


@st.composite
def other_types(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    kind = draw(st.sampled_from(sorted(OTHER_KINDS)))
    most, fixed, each = OTHER_KINDS[kind]
    members = draw(st.integers(0, most))
    # Words that look like the struct's own, so that only counting finds the next type.
    words = draw(st.lists(st.sampled_from([1, STRUCT << 24, 8]), min_size=fixed + each * members))
    return kind, members, words[: fixed + each * members]


@given(before=st.lists(other_types(), max_size=20))
def test_a_struct_is_found_behind_types_of_all_kinds(before: list[tuple[int, int, list[int]]]) -> None:
    builder = BtfBuilder()
    builder.name("cgroup")
    for kind, members, words in before:
        builder.add(kind, "cgroup", words, members)
    builder.add_struct("cgroup", [("kn", 640)], kind=UNION)
    builder.add_struct("cgroup_root", [("hierarchy_id", 96)])
    builder.add_struct("cgroup", [("self", 0), ("kn", 2048), ("root", 5568)])
    assert member_offsets(builder.build(), ["cgroup", "cgroup_root"]) == {
        "cgroup": {"self": 0, "kn": 256, "root": 696},
        "cgroup_root": {"hierarchy_id": 12},
    }


def test_the_size_of_a_bit_field_is_no_part_of_an_offset() -> None:
    builder = BtfBuilder()
    builder.add_struct("task", [("flag", 3 << 24 | 64), ("pid", 128)], flag=BIT_FIELDS)
    assert member_offsets(builder.build(), ["task"]) == {"task": {"flag": 8, "pid": 16}}


def test_what_is_not_there_is_absent() -> None:
    builder = BtfBuilder()
    builder.add_struct("task", [("cgroup", 64)])
    # The first is a string, but no struct's name; the second is only the end of one.
    assert member_offsets(builder.build(), ["cgroup", "group", "missing"]) == {}


@given(cut=st.integers(0, 100), noise=st.binary(max_size=40))
def test_damaged_information_is_an_error_or_not_found(cut: int, noise: bytes) -> None:
    builder = BtfBuilder()
    builder.add(1, "int", [0])
    builder.add_struct("cgroup", [("kn", 2048), ("root", 5568)])
    whole = builder.build()
    with suppress(NodeUnsupportedError):
        assert member_offsets(whole[:cut] + noise, ["cgroup"]).keys() <= {"cgroup"}


@pytest.mark.parametrize("damaged", [b"", b"\x7fELF" + bytes(60), bytes(24)])
def test_something_else_is_refused(damaged: bytes) -> None:
    with pytest.raises(NodeUnsupportedError, match="type information cannot be read"):
        member_offsets(damaged, ["cgroup"])


def test_an_unknown_kind_of_type_is_refused() -> None:
    builder = BtfBuilder()
    builder.add(31, "future", [])
    builder.add_struct("cgroup", [("kn", 0)])
    with pytest.raises(NodeUnsupportedError, match="unknown kind of type 31"):
        member_offsets(builder.build(), ["cgroup"])
