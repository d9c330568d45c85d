# SPDX-License-Identifier: Apache-2.0
"""Which devices are summed, on trees of sysfs after real nodes; tests/guest/ has a stack that is real."""

import time
from pathlib import Path

import pytest
from cgroup_file_sets import write_files
from disks import Disks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer.readers import block_devices
from tracer.readers.block_devices import UNKNOWN, BlockDevices
from tracer.readers.io_devices import IoDevicesReader
from tracer.readers.protocol import Cgroup
from tracer.readers.resources import ResourcesReader


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


def sums(root: Path, devices: BlockDevices) -> tuple[dict[str, int], dict[str, int]]:
    """Sums of io.stat: as `resources` has them, and of the rows of `io` that are marked."""
    cgroup = Cgroup((root / "a").stat().st_ino, "/a", "container", None, False)
    reader = ResourcesReader(root, devices=devices)
    (row,) = reader.read([cgroup]).rows["resources"].to_dicts()
    reader.close()
    rows = IoDevicesReader(root, devices).read([cgroup]).rows["io"]
    columns = [name for name in rows.columns if name.startswith("io_") and not name.startswith("io_max")]
    of_rows = {name: rows.filter(is_summed=1)[name].sum() for name in columns if rows[name].count()}
    return {name: value for name, value in row.items() if name in columns and value is not None}, of_rows


def test_lvm_on_md_on_disks_counts_on_top(disks: Disks) -> None:
    disks.add("sda", "8:0", partitions={"sda1": "8:1", "sda2": "8:2"})
    disks.add("sdb", "8:16", partitions={"sdb1": "8:17", "sdb2": "8:18"})
    disks.add("md0", "9:0", on=["sda2", "sdb2"])
    disks.add("dm-0", "253:0", on=["md0"])
    disks.add("dm-1", "253:1", on=["md0"])
    disks.add("nvme0n1", "259:0")
    disks.mount("253:0 / ext4 /dev/mapper/vg-root", "8:1 /boot/efi vfat /dev/sda1", "259:0 /data xfs /dev/nvme0n1")
    assert disks.left_out == {"8:0", "8:16", "9:0"}


def test_a_disk_that_is_used_beside_what_lies_on_it_counts_itself(disks: Disks) -> None:
    """Else what is read from its root file system would be in no sum."""
    disks.add("vda", "254:0", partitions={"vda1": "254:1", "vda2": "254:2"})
    disks.add("vdb", "254:16")
    disks.add("dm-0", "253:0", on=["vda2"])
    disks.add("dm-1", "253:1", on=["dm-0"])
    disks.add("dm-2", "253:2", on=["vdb"])
    disks.add("dm-3", "253:3", on=["vda2", "vdb"])
    disks.mount("254:1 / ext4 /dev/vda1", "253:1 /var/lib/containers xfs /dev/mapper/vg-containers")
    assert disks.left_out == {"253:0", "253:1", "254:16"}


@pytest.mark.parametrize(
    ("mounts", "swaps"),
    [
        (["254:1 / ext4 /dev/vda1"], ""),
        (["0:40 / btrfs /dev/vda1"], ""),
        (["253:0 / ext4 /dev/mapper/vg-root"], "/dev/vda1                               partition\t1048572\t0\t-2\n"),
    ],
)
def test_ways_to_use_a_disk_directly(disks: Disks, mounts: list[str], swaps: str) -> None:
    disks.add("vda", "254:0", partitions={"vda1": "254:1", "vda2": "254:2"})
    disks.add("dm-0", "253:0", on=["vda2"])
    disks.mount(*mounts, swaps=swaps)
    assert disks.left_out == {"253:0"}


def test_luks_beside_a_partition_to_boot_from_counts_on_top(disks: Disks) -> None:
    """The threads that encrypt are the kernel's own: below them nobody knows any more whose I/O it was."""
    disks.add("nvme0n1", "259:0", partitions={"nvme0n1p1": "259:1", "nvme0n1p2": "259:2", "nvme0n1p3": "259:3"})
    disks.add("dm-0", "253:0", on=["nvme0n1p3"])
    disks.add("dm-1", "253:1", on=["dm-0"])
    disks.mount("259:1 /boot/efi vfat /dev/nvme0n1p1", "259:2 /boot ext4 /dev/nvme0n1p2", "253:1 / ext4 /dev/mapper/x")
    assert disks.left_out == {"259:0", "253:0"}


def test_a_loop_device_counts_unless_it_passes_all_on_to_a_disk(disks: Disks) -> None:
    disks.add("vda", "254:0", partitions={"vda1": "254:1"})
    files = ["/var/lib/snapd/a.snap", "/run/image", "/mnt/server/image", "/run/host/image", "/var/x (deleted)"]
    for number, file in enumerate(files):
        disks.add(f"loop{number}", f"7:{number}", loop__backing_file=file, loop__dio=1)
    disks.add("loop7", "7:7", loop__backing_file=files[0], loop__dio=0)
    disks.add("loop8", "7:8", size=0)
    disks.add("dm-0", "253:0", on=["loop0"])
    disks.add("dm-1", "253:1", on=["loop1"])
    disks.mount(
        "0:5 / rootfs none", "254:1 / ext4 /dev/vda1", "0:23 /run tmpfs tmpfs", "0:24 /mnt/server nfs4 server:/",
        "254:1 /run/host ext4 /dev/vda1",
    )  # fmt: skip
    assert disks.left_out == {"7:0", "253:0", "7:1", "7:3", "7:4"}


def test_paths_of_a_multipath_disk_are_the_disk_again(disks: Disks, tmp_path: Path) -> None:
    """They are hidden, and io.stat calls them unknown, as it does a disk that is gone."""
    write_files(tmp_path / "a", {"io.stat": "259:1 rbytes=5 rios=1\n(unknown) rbytes=5 rios=1\n(unknown) rbytes=2\n"})
    disks.add("nvme0n1", "259:1")
    devices = disks.devices()
    assert sums(tmp_path, devices) == ({"io_rbytes": 12, "io_rios": 2},) * 2
    disks.add("nvme0c0n1", "259:2", hidden=1)
    assert devices.stacks().left_out == {UNKNOWN}
    assert sums(tmp_path, devices) == ({"io_rbytes": 5, "io_rios": 1},) * 2


def test_a_disk_that_is_gone_or_has_no_others_below_counts(disks: Disks, tmp_path: Path) -> None:
    write_files(tmp_path / "a", {"io.stat": "8:32 wbytes=1\n252:0 wbytes=10\n8:0 wbytes=100\n"})
    disks.add("zram0", "252:0", backing_dev="/dev/sda1")
    disks.add("sda", "8:0")
    assert sums(tmp_path, disks.devices()) == ({"io_wbytes": 111},) * 2


def test_what_only_others_have_is_zero_and_not_unknown(disks: Disks, tmp_path: Path) -> None:
    write_files(tmp_path / "a", {"io.stat": "8:0 rbytes=7\n"})
    disks.add("sda", "8:0")
    disks.add("dm-0", "253:0", on=["sda"])
    assert sums(tmp_path, disks.devices()) == ({"io_rbytes": 0},) * 2


def test_disks_in_a_ring_do_no_harm(disks: Disks) -> None:
    disks.add("dm-0", "253:0")
    disks.add("dm-1", "253:1", on=["dm-0"])
    (disks.sysfs / "block/dm-0/slaves/dm-1").symlink_to("../../dm-1")
    assert disks.left_out == {"253:0", "253:1"}


def test_without_sysfs_all_count(tmp_path: Path) -> None:
    assert BlockDevices(sysfs=tmp_path / "sys", proc=tmp_path / "proc").stacks() == (frozenset(), 0)


def test_sums_begin_anew_when_disks_are_stacked_anew(
    disks: Disks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "a", {"io.stat": "8:0 rbytes=100\n8:16 rbytes=1000\n", "cpu.stat": "usage_usec 1\n"})
    cgroup = Cgroup((tmp_path / "a").stat().st_ino, "/a", "container", None, False)
    disks.add("sda", "8:0")
    disks.add("sdb", "8:16")
    reader = ResourcesReader(tmp_path, devices=disks.devices())

    def read() -> int | None:
        found = reader.read([cgroup])
        rows = found.rows["resources"]
        assert rows["cpu_usage_usec"].to_list() == [1]
        assert len(found.notes) == ("io_rbytes" not in rows.columns)
        return rows["io_rbytes"].item() if "io_rbytes" in rows.columns else None

    assert [read(), read()] == [1100, 1100]
    # A new disk on an old one, whose bytes are not in the sum any more; and a new disk that changes nothing.
    disks.add("dm-0", "253:0", on=["sda"])
    assert [read(), read()] == [None, 1000]
    disks.add("sdc", "8:32")
    assert [read(), read()] == [1000, 1000]
    # Without a new name it is found after a while.
    monkeypatch.setattr(block_devices, "_LOOK_NS", 0)
    (disks.sysfs / "block/dm-0/slaves/sda").unlink()
    disks.add("sdd", "8:48")
    assert [read(), read()] == [None, 1100]
    (disks.sysfs / "block/dm-0/slaves/sdb").symlink_to("../../sdb")
    while (value := read()) == 1100:
        time.sleep(0.01)
    assert [value, read()] == [None, 100]
    reader.close()


words = st.one_of(
    st.sampled_from(["8:0", "8:16", "253:0", "9:127", UNKNOWN, "unknown", "8:", ":0", "8:0:0", "(unknown", "max"]),
    st.builds("{}={}".format, st.sampled_from(["rbytes", "wbytes", "rios", "dios", "cost.usage", "x.rbytes", ""]),
              st.one_of(st.integers(0, 10**6), st.sampled_from(["max", "", "-1", "1.5", "1x", "=2"]))),
)  # fmt: skip
lines = st.lists(st.lists(words, max_size=6).map(" ".join), max_size=6).map("\n".join)


@given(lines, st.sampled_from(["", "\n", " "]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_both_tables_say_the_same_whatever_the_file_says(tmp_path: Path, text: str, end: str) -> None:
    if not (tmp_path / "sys").exists():
        disks = Disks(tmp_path)
        disks.add("sda", "8:0", partitions={"sda1": "8:1"})
        disks.add("dm-0", "253:0", on=["sda1"])
    write_files(tmp_path / "a", {"io.stat": text + end, "cpu.stat": "usage_usec 1\n"})
    of_cgroup, of_devices = sums(tmp_path, BlockDevices(sysfs=tmp_path / "sys", proc=tmp_path / "proc"))
    assert of_cgroup == of_devices


def test_values_are_of_the_device_before_them(tmp_path: Path) -> None:
    """As kernels of 5.15 to 5.17 write those that nothing was read from or written to."""
    text = (
        "7:7 7:6 7:5 7:4 rbytes=28672 wbytes=0 rios=7 wios=0 dbytes=0 dios=0\n"
        "7:3 7:2 (unknown) 8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:1 7:0 "
    )
    write_files(tmp_path / "a", {"io.stat": text})
    cgroup = Cgroup((tmp_path / "a").stat().st_ino, "/a", "container", None, False)
    rows = IoDevicesReader(tmp_path, BlockDevices(sysfs=tmp_path, proc=tmp_path)).read([cgroup]).rows["io"]
    assert rows.select("device", "io_rbytes", "io_rios").rows() == [("7:4", 28672, 7), ("8:0", 1, 3)]


def test_a_file_that_is_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    """Its last line is not taken for a whole one."""
    count = 8000
    text = "".join(
        f"{8 + number // 1000}:{number % 1000} rbytes=111111111111 rios=1111111\n" for number in range(count)
    )
    assert len(text) > 256 << 10
    write_files(tmp_path / "a", {"io.stat": text})
    devices = BlockDevices(sysfs=tmp_path, proc=tmp_path)
    of_cgroup, of_devices = sums(tmp_path, devices)
    assert of_devices["io_rbytes"] == 111111111111 * count
    assert of_cgroup["io_rbytes"] % 111111111111 == 0
    assert of_cgroup["io_rbytes"] == of_cgroup["io_rios"] // 1111111 * 111111111111


def test_a_sum_that_does_not_fit_is_none(tmp_path: Path) -> None:
    text = f"8:0 rbytes={2**63} rios=1\n8:16 rbytes={2**63} rios=2\n8:32 rbytes=5 rios=3\n"
    write_files(tmp_path / "a", {"io.stat": text})
    reader = ResourcesReader(tmp_path, devices=BlockDevices(sysfs=tmp_path, proc=tmp_path))
    rows = reader.read([Cgroup((tmp_path / "a").stat().st_ino, "/a", "container", None, False)]).rows["resources"]
    reader.close()
    assert rows["io_rios"].to_list() == [6]
    assert "io_rbytes" not in rows.columns
