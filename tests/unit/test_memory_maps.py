# SPDX-License-Identifier: Apache-2.0
import mmap
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.readers.file_systems import parse_mountinfo
from tracer.readers.mapping_kinds import Device
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


def mapping(
    name: str, *, permissions: str = "rw-p", device: str = "fe:00", flags: str = "rd wr mr mw me ac", size: int = 8,
    pss: int = 4, address: int = 0x7F00_0000_0000,
) -> str:  # fmt: skip
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
        f"{address:x}-{address + size * 1024:x} {permissions} 00000000 {device} 12345                      {name}\n"
        + "".join(f"{key}:{value:16} kB\n" for key, value in values.items())
        + f"THPeligible:           0\nVmFlags: {flags} \n"
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


MOUNTED = {
    (0, 6): "devtmpfs",
    (0, 22): "sysfs",
    (0, 27): "tmpfs",
    (0, 28): "hugetlbfs",
    (0, 40): "btrfs",
    (254, 0): "ext4",
}
# As kernels 6.12 and 6.18 describe mappings that were made for it; those of drivers as their sources have them.
LINES = """
heap: rw-p 00:00 [heap] rd wr mr mw me ac
stack: rw-p 00:00 [stack] rd wr mr mw me gd ac
stack: rw-p 00:00 [stack:4711] rd wr mr mw me
kernel: r-xp 00:00 [vdso] rd ex mr mw me de
kernel: r--p 00:00 [vvar] rd mr pf io de dd
kernel: --xp 00:00 [vsyscall] ex
kernel: r-xp 00:00 [sigpage] rd ex mr mw me de
anonymous: rw-p 00:00  rd wr mr mw me ac
anonymous: rw-p 00:00 [anon:[heap]/x (deleted)] rd wr mr mw me ac
anonymous: rw-p 00:11 /anon_hugepage (deleted) rd wr mr mw me de ht sd
shared: rw-s 00:01 /dev/zero (deleted) rd wr sh mr mw me ms
shared: rw-s 00:01 [anon_shmem:/usr/lib/x] rd wr sh mr mw
shared: rw-s 00:01 /memfd:jit (deleted) rd wr sh mr mw me ms
shared: r-xp 00:01 /memfd:jit (deleted) rd ex mr mw me
shared: rw-s 00:01 /SYSV00000000 (deleted) rd wr sh mr mw me ms
shared: rw-s 00:0e /secretmem (deleted) rd wr sh mr mw ms lo dd
shared: rw-s 00:11 /anon_hugepage (deleted) rd wr sh mr mw me ms de ht sd
shared: rw-s 00:11 /SYSV00000000 (deleted) rd wr sh mr mw me ms de ht sd
shared: rw-p 00:11 /memfd:huge (deleted) rd wr mr mw me de ht sd
shared: rw-s 00:1c /huge/pool rd wr sh mr mw me ms de ht sd
shared: rw-s 00:1b /dev/shm/ring rd wr sh mr mw me ms
shared: rw-s 00:1b /run/any/where rd wr sh mr mw me ms
shared: rw-s 00:2f /drm mm object (deleted) rd wr sh mr mw ms
device: rw-s 00:06 /dev/nvidia0 rd wr sh mr mw me ms pf io dc de dd
device: rw-s 00:1b /dev/nvidiactl rd wr sh ms pf io
device: rw-s 00:06 /dev/dri/renderD128 rd wr sh mr mw me ms pf io de dd
device: rw-s 00:06 /dev/dax0.0 rd wr sh mr mw ms hg
device: rw-s 00:0b /dmabuf: rd wr sh mr mw me ms pf de dd sd
device: rw-s 00:0b /dmabuf:camera rd wr sh mr mw ms
device: rw-s 00:13 /[aio] (deleted) rd wr sh mr mw ms de
device: rw-s 00:10 anon_inode:[io_uring] rd wr sh mr mw ms de mm
device: rw-s 00:10 anon_inode:[perf_event] rd wr sh mr mw me ms dc de dd sd
device: rw-s 00:10 anon_inode:kvm-vcpu:0 rd wr
device: rw-s 00:09 socket:[312513] rd wr sh mr mw ms mm
device: r--s 00:06 /dev/mem rd mr me ms pf io de ar dd sd
device: rw-s 00:16 /sys/devices/pci0000:00/0000:00:02.0/resource0 rd wr sh ms pf io
device: rw-s 00:26 /dev/vfio/12 rd wr sh mr mw me ms pf io
file: r-xp fe:00 /usr/lib/libc.so.6 rd ex mr mw me
file: rw-s fe:00 /var/lib/db/data rd wr sh mr mw me ms
file: rw-s 103:02 /pmem/data rd wr sh mr mw me ms mm hg
file: r-xp 00:28 /usr/lib/libc.so.6 rd ex mr mw me
file: rw-s 00:28 /memfd:x (deleted) rd wr sh mr mw ms
file: rw-p fe:00 /anon_hugepage (deleted) rd wr mr mw me ac
file: rw-s fe:00 /dev/zero (deleted) rd wr sh mr mw ms
file: rw-s fe:00 /dmabuf: rd wr sh mr mw ms
file: rw-s fe:00 /dev/shm/ring rd wr sh mr mw ms
file: r-xp 00:1b /app/libc.so.6 rd ex mr mw me
file: rw-p 00:1c /huge/pool rd wr mr mw me de ht sd
file: r-xp 00:31 /usr/bin/elsewhere rd ex mr mw me
file: rw-s fe:00 /tmp/a b\\012c rw-s 00:01 [heap] (deleted) (deleted) rd wr sh mr mw ms
"""


@pytest.mark.parametrize("line", LINES.strip().splitlines())
def test_kinds_of_mappings(line: str) -> None:
    kind, permissions, device, rest = line.split(" ", 3)
    name, flags = re.fullmatch(r"(.*?) ?((?:\b[a-z]{2}(?: |$))+)", rest).groups()  # type: ignore[union-attr]
    text = mapping(name, permissions=permissions, device=device, flags=flags)
    (region,) = parse_smaps(text.encode(), MOUNTED)
    assert region == {
        "kind": kind.rstrip(":"), "path": name or None, "mappings": 1, "size_bytes": 8192, "rss_bytes": 5120,
        "pss_bytes": 4096, "uss_bytes": 3072, "anonymous_bytes": 2048, "swap_bytes": 3072,
    }  # fmt: skip


def test_where_no_file_system_is_known_the_place_has_to_do() -> None:
    places = {
        "/dev/shm/ring": "shared",
        "/dev/dri/card0": "device",
        "/dev/shmx": "device",
        "/usr/lib/libc.so.6": "file",
    }
    for path, kind in places.items():
        (region,) = parse_smaps(mapping(path, permissions="rw-s", device="00:99").encode())
        assert region["kind"] == kind


@pytest.mark.parametrize(
    ("number", "permissions", "kind"),
    [
        ((1, 5), "rw-p", "anonymous"), ((1, 5), "rw-s", "device"), ((195, 0), "rw-s", "device"),
        ((195, 0), "rw-p", "device"), (None, "rw-s", "shared"), (None, "rw-p", "file"),
    ],
)  # fmt: skip
def test_a_node_of_a_device_in_memory(number: Device | None, permissions: str, kind: str) -> None:
    asked = []

    def node(addresses: bytes) -> Device | None:
        asked.append(addresses)
        return number

    text = mapping("/dev/of/container", permissions=permissions, device="00:1b", flags="rd wr sh mr mw ms")
    (region,) = parse_smaps(text.encode(), MOUNTED, node)
    assert (region["kind"], asked) == (kind, [b"7f0000000000-7f0000002000"])


def test_only_file_systems_in_memory_are_asked_for_nodes() -> None:
    """Another one may be of a server that does not answer."""

    def node(addresses: bytes) -> Device | None:
        raise AssertionError(addresses)

    lines = [mapping("/a", device="00:28"), mapping("/a", device="fe:00"), mapping("/a", device="00:77")]
    assert {region["kind"] for region in parse_smaps("".join(lines).encode(), MOUNTED, node)} == {"file"}


def test_one_path_mapped_in_two_ways_is_two_regions() -> None:
    lines = mapping("/x", device="00:1b") + mapping("/x", device="00:1b", permissions="rw-s")
    assert [(region["kind"], region["path"]) for region in parse_smaps(lines.encode(), MOUNTED)] == [
        ("file", "/x"),
        ("shared", "/x"),
    ]


def test_mountinfo() -> None:
    text = (
        b"23 26 0:21 / /proc rw,relatime shared:5 master:1 - proc proc rw\n"
        b"26 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        b"31 25 0:25 / /dev/a\\040-\\040b rw - tmpfs tmp - fs rw,inode64\n"
        b"malformed\n40 1 x:y / / rw - ext4 a rw\n41 1 0:1\n"
    )
    assert parse_mountinfo(text) == {(0, 21): "proc", (254, 0): "ext4", (0, 25): "tmpfs"}


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


def test_huge_pages_are_among_the_largest() -> None:
    huge = mapping("/huge/pool", device="00:1c", pss=0, permissions="rw-s").replace(
        "Private_Dirty:               2", "Private_Hugetlb:        99999"
    )
    text = "".join(mapping(f"/file{number}") for number in range(1000)) + huge
    assert parse_smaps(text.encode(), MOUNTED)[0]["path"] == "/huge/pool"


def test_of_the_live_kernel() -> None:
    with mmap.mmap(-1, 8 << 20) as memory:
        memory.write(b"x" * (8 << 20))
        # Again if another process with the same libraries came or went meanwhile: the shares of them are others then.
        for _attempt in range(20):
            rollup = parse_rollup(Path("/proc/self/smaps_rollup").read_bytes())
            regions = parse_smaps(Path("/proc/self/smaps").read_bytes())
            after = parse_rollup(Path("/proc/self/smaps_rollup").read_bytes())
            if after["pss_bytes"] == pytest.approx(rollup["pss_bytes"], rel=0.005):
                break
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
    for region in parse_smaps(text, MOUNTED):
        assert region["path"] is None or region["path"].isprintable()
