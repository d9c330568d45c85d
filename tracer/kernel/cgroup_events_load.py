# SPDX-License-Identifier: Apache-2.0
"""The load of `bpf_programs/cgroup_lifecycle.c`: what it is compiled with, apart from what reads its ring."""

import mmap
from collections.abc import Mapping

from tracer.errors import NodeUnsupportedError
from tracer.kernel.btf import member_offsets, read_kernel_btf
from tracer.kernel.loader import LoadSpec, ProgramLoad

TRACEPOINTS = ("cgroup_mkdir", "cgroup_rmdir", "cgroup_notify_populated")
"""Raw tracepoints, each with a program of its name."""

CGROUP_ID_FIELDS = {
    "CGROUP_KN": ("cgroup", "kn"),
    "CGROUP_ROOT": ("cgroup", "root"),
    "KERNFS_NODE_ID": ("kernfs_node", "id"),
    "CGROUP_ROOT_HIERARCHY_ID": ("cgroup_root", "hierarchy_id"),
}
"""The fields whose offsets bpf_programs/cgroup_ids.h needs, by the name of the definition."""


def load_cgroup_events(ring_bytes: int) -> ProgramLoad:
    """Begins to compile in a child; `ring_bytes` is a power of two of at least two pages.

    Raises NodeUnsupportedError where the kernel has no type information.
    """
    return ProgramLoad(
        LoadSpec(
            source="cgroup_lifecycle.c",
            functions=dict.fromkeys(TRACEPOINTS, "RAW_TRACEPOINT"),
            maps=("state", "events"),
            definitions=field_offsets(CGROUP_ID_FIELDS) | {"RING_PAGES": str(ring_bytes // mmap.PAGESIZE)},
        )
    )


def field_offsets(fields: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The offsets of fields, by struct and name, as definitions for the compiler.

    Raises NodeUnsupportedError where the kernel lacks a field, or has no type information.
    """
    structs = member_offsets(read_kernel_btf(), {struct_name for struct_name, _field in fields.values()})
    definitions = {}
    for name, (struct_name, field) in fields.items():
        offset = structs.get(struct_name, {}).get(field)
        if offset is None:
            raise NodeUnsupportedError(f"this kernel's struct {struct_name} has no field {field} that the tracer knows")
        definitions[name] = str(offset)
    return definitions
