# SPDX-License-Identifier: Apache-2.0
import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.readers.memory_maps import MEMORY_COLUMNS, REGION_COLUMNS, parse_rollup, parse_smaps
from tracer.store.schemas import PROCESSES, REGIONS

ROLLUP = b"""\
5581e0a00000-7ffd1b5fe000 ---p 00000000 00:00 0                          [rollup]
Rss:                5120 kB
Pss:                2048 kB
Pss_Dirty:           512 kB
Shared_Clean:       3000 kB
Shared_Dirty:         20 kB
Private_Clean:       100 kB
Private_Dirty:      1000 kB
Private_Hugetlb:    2048 kB
Swap:                 12 kB
SwapPss:               6 kB
Tomorrow:              1 kB
"""


def mapping(name: str, *, size: int = 8, pss: int = 4, address: int = 0x7F00_0000_0000) -> str:
    values = {
        "Size": size,
        "Rss": pss + 1,
        "Pss": pss,
        "Private_Clean": 1,
        "Private_Dirty": 2,
        "Anonymous": 2,
        "Swap": 3,
    }
    return (
        f"{address:x}-{address + size * 1024:x} rw-p 00000000 00:01 12345                      {name}\n"
        + "".join(f"{key}:{value:16} kB\n" for key, value in values.items())
        + "THPeligible:           0\nVmFlags: rd wr mr mw me ac \n"
    )


def test_rollup_in_bytes() -> None:
    found = parse_rollup(ROLLUP)
    assert found["rss_bytes"] == 5120 << 10
    assert found["pss_bytes"] == 2048 << 10
    assert found["uss_bytes"] == (100 + 1000 + 2048) << 10
    assert found["swap_pss_bytes"] == 6 << 10
    assert "locked_bytes" not in found
    assert found.keys() <= {*MEMORY_COLUMNS, "rss_bytes"}


@pytest.mark.parametrize("text", [b"", b"5581e0a00000-7ffd1b5fe000 ---p 00000000 00:00 0 [rollup]\n", b"Rss: 5 kB\n"])
def test_rollup_of_what_has_no_memory_is_empty(text: bytes) -> None:
    assert parse_rollup(text) == {}


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("", "anonymous", None),
        *(
            (name, kind, name)
            for kind, names in {
                "heap": ["[heap]"],
                "stack": ["[stack]"],
                "kernel": ["[vdso]", "[vvar]"],
                "anonymous": ["[anon:malloc]"],
                "file": ["/usr/lib/libc.so.6", "/tmp/a b\\012Rss:"],
                "shared": [
                    "/memfd:jit (deleted)", "/dev/shm/ring", "/dev/zero (deleted)", "[anon_shmem:x]",
                    "/SYSV00000000 (deleted)",
                ],
                "device": ["/dev/dri/card0", "anon_inode:[perf_event]"],
            }.items()
            for name in names
        ),
    ],
)  # fmt: skip
def test_kinds_of_mappings(name: str, kind: str, path: str | None) -> None:
    (region,) = parse_smaps(mapping(name).encode())
    assert region == {
        "kind": kind, "path": path, "mappings": 1, "size_bytes": 8192, "rss_bytes": 5120, "pss_bytes": 4096,
        "uss_bytes": 3072, "anonymous_bytes": 2048, "swap_bytes": 3072,
    }  # fmt: skip


def test_mappings_of_one_file_are_one_region() -> None:
    first, second = parse_smaps((mapping("/a", pss=1) + mapping("") + mapping("/a", pss=2)).encode())
    assert (first["path"], second["path"]) == (None, "/a")
    assert (second["mappings"], second["pss_bytes"]) == (2, 3072)


def test_the_many_small_ones_are_put_together_by_kind() -> None:
    regions = parse_smaps("".join(mapping(f"/file{number}", pss=number) for number in range(1000)).encode())
    assert len(regions) == 257
    assert sum(region["pss_bytes"] for region in regions) == sum(range(1000)) << 10
    (rest,) = (region for region in regions if region["path"] is None)
    assert (rest["kind"], rest["mappings"], rest["pss_bytes"]) == ("file", 744, sum(range(744)) << 10)


def test_of_the_live_kernel() -> None:
    with mmap.mmap(-1, 8 << 20) as memory:
        memory.write(b"x" * (8 << 20))
        rollup = parse_rollup(Path("/proc/self/smaps_rollup").read_bytes())
        regions = parse_smaps(Path("/proc/self/smaps").read_bytes())
    assert rollup.keys() > set(MEMORY_COLUMNS) - {"ksm_bytes", "pss_dirty_bytes"}
    # Of each mapping half a KB is lost; the process allocates something between the two.
    assert sum(region["pss_bytes"] for region in regions) == pytest.approx(rollup["pss_bytes"], rel=0.05)
    assert {"file", "anonymous", "stack", "heap"} <= {region["kind"] for region in regions}
    assert any(region["kind"] == "shared" and region["rss_bytes"] >= 8 << 20 for region in regions)


def test_columns_are_those_of_the_tables() -> None:
    assert set(MEMORY_COLUMNS) < set(PROCESSES.schema.names)
    assert set(REGION_COLUMNS) < set(REGIONS.schema.names)


@given(st.lists(st.one_of(st.binary(), st.sampled_from([*ROLLUP.splitlines(True), mapping("/a").encode()]))))
def test_hostile_texts_do_no_harm(parts: list[bytes]) -> None:
    text = b"".join(parts)
    assert all(0 <= value < 2**64 for value in parse_rollup(text).values())
    for region in parse_smaps(text):
        assert region["path"] is None or region["path"].isprintable()
