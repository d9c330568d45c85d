# SPDX-License-Identifier: Apache-2.0
"""bpf_programs/lifecycle_records.h and tracer/kernel/cgroup_events.py describe the same bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_records_layout import compile_with_bcc, field_is, size_is

from tracer.cgroup_event import CgroupEvent, EventKind
from tracer.kernel.cgroup_events import KINDS, PATH_BYTES, RECORD, decode

HEADER = '#include "lifecycle_records.h"'
FIELDS = [("time_ns", 0, 8), ("cgroup_id", 8, 8), ("kind", 16, 4), ("path_length", 20, 4)]


def record(path: bytes, *, kind: int = 1) -> bytes:
    return RECORD.pack(5, 7, kind, len(path)) + path


def test_every_field_lies_where_the_c_side_puts_it() -> None:
    assertions = [
        HEADER,
        f'_Static_assert(PATH_BYTES == {PATH_BYTES}, "PATH_BYTES");',
        size_is("lifecycle_record", RECORD.size + PATH_BYTES),
        *field_is("lifecycle_state", "lost", 0, 8),
        *field_is("lifecycle_record", "path", RECORD.size, PATH_BYTES),
    ]
    for name, offset, size in FIELDS:
        assertions += field_is("lifecycle_record", name, offset, size)
    for number, kind in KINDS.items():
        assertions.append(f'_Static_assert(LIFECYCLE_{kind.upper()} == {number}, "{kind}");')
    assert compile_with_bcc(assertions) == ""


def test_a_difference_is_found() -> None:
    said = compile_with_bcc([HEADER, size_is("lifecycle_record", 1), '_Static_assert(LIFECYCLE_REMOVED == 1, "kind");'])
    assert '"size of lifecycle_record"' in said
    assert '"kind"' in said


@pytest.mark.parametrize(("number", "kind"), [(1, "created"), (2, "removed"), (3, "populated"), (4, "emptied")])
def test_an_event_of_each_kind(number: int, kind: EventKind) -> None:
    assert decode(record(b"/a/b", kind=number)) == CgroupEvent(5, kind, 7, "/a/b", truncated=False)


@given(path=st.binary(min_size=1, max_size=PATH_BYTES - 1))
def test_a_path_of_any_bytes_comes_back_as_it_was(path: bytes) -> None:
    event = decode(record(path) + b"padding")
    assert event.path.encode("utf-8", "surrogateescape") == path
    assert event.truncated == (len(path) == PATH_BYTES - 1)


@pytest.mark.parametrize("malformed", [b"", record(b"/a")[:23], record(b"/a", kind=0), record(b"/" * PATH_BYTES)])
def test_what_is_no_record_is_no_event(malformed: bytes) -> None:
    with pytest.raises(ValueError, match=r"record|event"):
        decode(malformed)


def test_a_path_that_could_not_be_read_is_truncated() -> None:
    assert decode(record(b"")) == CgroupEvent(5, "created", 7, "", truncated=True)
