# SPDX-License-Identifier: Apache-2.0
"""bpf_programs/records.h and tracer/kernel/records.py describe the same bytes.

The compiler that builds the BPF programs, BCC's clang, checks each of numpy's numbers; it needs no root to compile.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from tracer.kernel import records
from tracer.kernel.loader import programs_directory

STRUCTS = {
    "tick_record": records.TICK_RECORD,
    "accumulator": records.ACCUMULATOR,
    "cpu_state": records.CPU_STATE,
}

# In a process of its own: clang's memory is not to stay, and BCC writes its errors to file descriptor 2.
COMPILE = """
import sys
from tracer.kernel.loader_process import import_bcc
import_bcc().BPF(text=sys.stdin.read(), cflags=sys.argv[1:])
"""


def compile_with_bcc(assertions: list[str]) -> str:
    """What clang says to static assertions about records.h; empty if all hold."""
    directory = programs_directory()
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, f"-I{directory}"],
        input="\n".join(['#include "records.h"', *assertions]) + "\n",
        env={**os.environ, "BCC_KERNEL_SOURCE": str(directory / "headers")},
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr or "failed without a word"


def size_is(struct: str, size: int) -> str:
    return f'_Static_assert(sizeof(struct {struct}) == {size}, "size of {struct}");'


def field_is(struct: str, field: str, offset: int, size: int) -> list[str]:
    return [
        f'_Static_assert(__builtin_offsetof(struct {struct}, {field}) == {offset}, "offset of {struct}.{field}");',
        f'_Static_assert(sizeof(((struct {struct} *)0)->{field}) == {size}, "size of {struct}.{field}");',
    ]


def fields_of(layout: np.dtype) -> list[tuple[str, int, int]]:
    """Name, offset and size in bytes of each field, in order."""
    assert layout.fields is not None
    assert layout.names is not None
    return [(name, layout.fields[name][1], layout.fields[name][0].itemsize) for name in layout.names]


def test_every_field_lies_where_the_c_side_puts_it() -> None:
    assertions = [
        f'_Static_assert(COUNTERS == {records.COUNTERS}, "COUNTERS");',
        f'_Static_assert(SLOTS == {records.SLOTS}, "SLOTS");',
    ]
    for struct, layout in STRUCTS.items():
        assertions.append(size_is(struct, layout.itemsize))
        for field, offset, size in fields_of(layout):
            assertions += field_is(struct, field, offset, size)
    assert compile_with_bcc(assertions) == ""


@pytest.mark.parametrize("struct", STRUCTS)
def test_the_fields_leave_no_byte_out(struct: str) -> None:
    # Together with equal offsets and sizes: the C side has no field that numpy does not know.
    end = 0
    for _name, offset, size in fields_of(STRUCTS[struct]):
        assert offset == end
        end = offset + size
    assert end == STRUCTS[struct].itemsize


def test_a_difference_is_found() -> None:
    said = compile_with_bcc([size_is("tick_record", 65), *field_is("tick_record", "cpu", 43, 4)])
    for fault in ("size of tick_record", "offset of tick_record.cpu", "size of tick_record.cpu"):
        assert f'"{fault}"' in said
