# SPDX-License-Identifier: Apache-2.0
"""What `/proc/<pid>/smaps_rollup` and `smaps` say of a process's memory (proc_pid_smaps(5))."""

import re
from collections import defaultdict
from typing import Any, Final

from tracer.printable import printable

_MEMORY_KEYS: Final = {
    b"Rss": "rss_bytes",
    b"Pss": "pss_bytes",
    b"Pss_Dirty": "pss_dirty_bytes",
    b"Pss_Anon": "pss_anon_bytes",
    b"Pss_File": "pss_file_bytes",
    b"Pss_Shmem": "pss_shmem_bytes",
    b"Shared_Clean": "shared_clean_bytes",
    b"Shared_Dirty": "shared_dirty_bytes",
    b"Private_Clean": "private_clean_bytes",
    b"Private_Dirty": "private_dirty_bytes",
    b"Referenced": "referenced_bytes",
    b"Anonymous": "anonymous_bytes",
    b"KSM": "ksm_bytes",
    b"LazyFree": "lazy_free_bytes",
    b"AnonHugePages": "anon_huge_pages_bytes",
    b"ShmemPmdMapped": "shmem_pmd_mapped_bytes",
    b"FilePmdMapped": "file_pmd_mapped_bytes",
    b"Shared_Hugetlb": "shared_hugetlb_bytes",
    b"Private_Hugetlb": "private_hugetlb_bytes",
    b"Swap": "swap_bytes",
    b"SwapPss": "swap_pss_bytes",
    b"Locked": "locked_bytes",
}
MEMORY_COLUMNS: Final = ("uss_bytes", *(column for column in _MEMORY_KEYS.values() if column != "rss_bytes"))
"""Columns of `parse_rollup`, beside `rss_bytes`."""
REGION_COLUMNS: Final = ("size_bytes", "rss_bytes", "pss_bytes", "uss_bytes", "anonymous_bytes", "swap_bytes")
"""Columns of numbers of `parse_smaps`."""
REGIONS_AT_MOST: Final = 256

_REGION_KEYS = {
    b"Size": 0,
    b"Rss": 1,
    b"Pss": 2,
    b"Private_Clean": 3,
    b"Private_Dirty": 3,
    b"Private_Hugetlb": 3,
    b"Anonymous": 4,
    b"Swap": 5,
}
_LINE = re.compile(
    rb"^(?:([A-Z][A-Za-z_]*): +([0-9]{1,15}) kB|[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*))$", re.MULTILINE
)
_KERNEL_NAMES = frozenset({b"[vdso]", b"[vvar]", b"[vvar_vclock]", b"[vsyscall]", b"[uprobes]"})
# Shared memory: tmpfs, System V, memfd_create(2), and anonymous shared mappings, with a name or without.
_SHARED_PREFIXES = (b"/dev/shm/", b"/SYSV", b"/memfd:", b"/dev/zero", b"[anon_shmem:")


def parse_rollup(text: bytes) -> dict[str, int]:
    """Bytes by column; empty for a text without Pss: the process is gone, or has no memory."""
    found = {}
    for match in _LINE.finditer(text):
        column = _MEMORY_KEYS.get(match[1])
        if column is not None:
            found[column] = int(match[2]) * 1024
    if "pss_bytes" not in found:
        return {}
    found["uss_bytes"] = sum(
        found.get(name, 0) for name in ("private_clean_bytes", "private_dirty_bytes", "private_hugetlb_bytes")
    )
    return found


def parse_smaps(text: bytes) -> list[dict[str, Any]]:
    """`kind`, `path`, `mappings` and REGION_COLUMNS, summed over the mappings of one kind and path.

    The 256 largest by PSS have their path, the rest of each kind is one more without. A text that was cut in the
    middle gives what is in it.
    """
    regions: defaultdict[tuple[str, bytes], list[int]] = defaultdict(lambda: [0] * (len(REGION_COLUMNS) + 1))
    region: list[int] | None = None
    for match in _LINE.finditer(text):
        key, value, name = match.groups()
        if key is None:
            region = regions[_kind(name), name]
            region[-1] += 1
        elif region is not None and (place := _REGION_KEYS.get(key)) is not None:
            region[place] += int(value) * 1024
    largest = sorted(regions.items(), key=lambda item: item[1][2], reverse=True)
    merged = dict(largest[:REGIONS_AT_MOST])
    for (kind, _name), values in largest[REGIONS_AT_MOST:]:
        rest = merged.setdefault((kind, b""), [0] * len(values))
        merged[kind, b""] = [one + other for one, other in zip(rest, values, strict=True)]
    return [
        {"kind": kind, "path": printable(name) or None, "mappings": values[-1]}
        | dict(zip(REGION_COLUMNS, values, strict=False))
        for (kind, name), values in merged.items()
    ]


def _kind(name: bytes) -> str:
    """Kind of a mapping, from its name."""
    if name.startswith(_SHARED_PREFIXES):
        return "shared"
    if not name or name.startswith(b"["):
        return {b"[heap]": "heap", b"[stack]": "stack"}.get(name, "kernel" if name in _KERNEL_NAMES else "anonymous")
    if name.startswith((b"/dev/", b"anon_inode:")):
        return "device"
    return "file"
