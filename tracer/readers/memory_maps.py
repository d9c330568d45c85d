# SPDX-License-Identifier: Apache-2.0
"""What `/proc/<pid>/smaps_rollup` and `smaps` say of a process's memory (proc_pid_smaps(5))."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from tracer.printable import printable
from tracer.readers.mapping_kinds import Described, Device, kind_of

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
_PSS, _USS = 2, 3
_NONE_KNOWN: Mapping[Device, str] = MappingProxyType({})
_VALUE = re.compile(rb"^([A-Z][A-Za-z_]*): +([0-9]{1,15}) kB$", re.MULTILINE)
# A value that is wanted, the first line of a mapping, or the last. Of a name only the line's end is escaped.
_LINE = re.compile(
    rb"^(" + b"|".join(_REGION_KEYS) + rb"): +([0-9]{1,15}) kB$"
    rb"|^([0-9a-f]+-[0-9a-f]+) ([-rwxsp]{4}) [0-9a-f]+ ([0-9a-f]{2,8}):([0-9a-f]{2,8}) [0-9]+ *(.*)$"
    rb"|^VmFlags:(.*)$",
    re.MULTILINE,
)


def parse_rollup(text: bytes) -> dict[str, int]:
    """Bytes by column; empty for a text without Pss: the process is gone, or has no memory."""
    found = {}
    for match in _VALUE.finditer(text):
        column = _MEMORY_KEYS.get(match[1])
        if column is not None:
            found[column] = int(match[2]) * 1024
    if "pss_bytes" not in found:
        return {}
    found["uss_bytes"] = sum(
        found.get(name, 0) for name in ("private_clean_bytes", "private_dirty_bytes", "private_hugetlb_bytes")
    )
    return found


def parse_smaps(
    text: bytes,
    file_systems: Mapping[Device, str] = _NONE_KNOWN,
    node: Callable[[bytes], Device | None] = lambda _addresses: None,
) -> list[dict[str, Any]]:
    """`kind`, `path`, `mappings` and REGION_COLUMNS, summed over the mappings of one kind and path.

    The 256 largest by PSS have their path (by USS those of huge pages, which have no PSS), the rest of each kind is one
    more without. A text that was cut in the middle gives what is in it. `file_systems` and `node` as of `kind_of`.
    """
    regions: defaultdict[tuple[str, bytes], list[int]] = defaultdict(lambda: [0] * (len(REGION_COLUMNS) + 1))
    for mapping, values in _mappings(text):
        sums = regions[kind_of(mapping, file_systems, node), mapping.name]
        for place, value in enumerate(values):
            sums[place] += value
        sums[-1] += 1
    largest = sorted(regions.items(), key=lambda item: item[1][_PSS] or item[1][_USS], reverse=True)
    merged = dict(largest[:REGIONS_AT_MOST])
    for (kind, _name), values in largest[REGIONS_AT_MOST:]:
        rest = merged.setdefault((kind, b""), [0] * len(values))
        merged[kind, b""] = [one + other for one, other in zip(rest, values, strict=True)]
    return [
        {"kind": kind, "path": printable(name) or None, "mappings": values[-1]}
        | dict(zip(REGION_COLUMNS, values, strict=False))
        for (kind, name), values in merged.items()
    ]


def _mappings(text: bytes) -> Iterator[tuple[Described, list[int]]]:
    """Each mapping with its values in the order of REGION_COLUMNS."""
    mapping: Described | None = None
    values: list[int] = []
    for match in _LINE.finditer(text):
        key, value, addresses, permissions, major, minor, name, flags = match.groups()
        if key is not None:
            if mapping is not None:
                values[_REGION_KEYS[key]] += int(value) * 1024
        elif flags is not None:
            if mapping is not None:
                yield mapping._replace(flags=frozenset(flags.split())), values
            mapping = None
        else:
            if mapping is not None:
                yield mapping, values
            mapping = Described(addresses, permissions, (int(major, 16), int(minor, 16)), name, frozenset())
            values = [0] * len(REGION_COLUMNS)
    if mapping is not None:
        yield mapping, values
