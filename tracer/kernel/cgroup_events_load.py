# SPDX-License-Identifier: Apache-2.0
"""The load of `bpf_programs/cgroup_lifecycle.c`: what it is compiled with, apart from what reads its ring."""

import mmap

from tracer.errors import NodeUnsupportedError
from tracer.kernel.btf import member_offsets, read_kernel_btf
from tracer.kernel.loader import LoadSpec, ProgramLoad

TRACEPOINTS = ("cgroup_mkdir", "cgroup_rmdir", "cgroup_notify_populated")
"""Raw tracepoints, each with a program of its name."""

# The fields whose offsets the programs need, by the name of the definition.
_FIELDS = {
    "CGROUP_KN": ("cgroup", "kn"),
    "CGROUP_ROOT": ("cgroup", "root"),
    "KERNFS_NODE_ID": ("kernfs_node", "id"),
    "CGROUP_ROOT_HIERARCHY_ID": ("cgroup_root", "hierarchy_id"),
}


def load_cgroup_events(ring_bytes: int) -> ProgramLoad:
    """Begins to compile in a child; `ring_bytes` is a power of two of at least two pages.

    Raises NodeUnsupportedError where the kernel has no type information.
    """
    return ProgramLoad(
        LoadSpec(
            source="cgroup_lifecycle.c",
            functions=dict.fromkeys(TRACEPOINTS, "RAW_TRACEPOINT"),
            maps=("state", "events"),
            definitions=_field_offsets() | {"RING_PAGES": str(ring_bytes // mmap.PAGESIZE)},
        )
    )


def _field_offsets() -> dict[str, str]:
    """The offsets as definitions for the compiler. Raises NodeUnsupportedError where the kernel lacks a field."""
    structs = member_offsets(read_kernel_btf(), {struct_name for struct_name, _field in _FIELDS.values()})
    definitions = {}
    for name, (struct_name, field) in _FIELDS.items():
        offset = structs.get(struct_name, {}).get(field)
        if offset is None:
            raise NodeUnsupportedError(f"this kernel's struct {struct_name} has no field {field} that the tracer knows")
        definitions[name] = str(offset)
    return definitions
