# SPDX-License-Identifier: Apache-2.0
"""Block devices that lie on each other, as the device mapper makes them: a byte is counted once. Run in a guest."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest
from live_node import Cgroup

from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.readers.block_devices import BlockDevices
from tracer.readers.io_devices import IoDevicesReader
from tracer.readers.protocol import Cgroup as ReadCgroup
from tracer.readers.resources import ResourcesReader

pytestmark = [pytest.mark.root, pytest.mark.core]

MIB = 1 << 20
SIZE = 64 * MIB
# include/uapi/linux/dm-ioctl.h
_DM_VERSION = (4, 0, 0)
_DM_CREATE, _DM_REMOVE, _DM_RESUME, _DM_LOAD = 3, 4, 6, 9
_DM_HEAD, _DM_BYTES = 312, 4096


def device_mapper(command: int, name: str, table: bytes = b"") -> None:
    """One ioctl of the device mapper, on the device `name`."""
    head = struct.pack("3I3I", *_DM_VERSION, _DM_BYTES, _DM_HEAD, bool(table)).ljust(48, b"\0") + name.encode()
    control = os.open("/dev/mapper/control", os.O_RDWR)
    try:
        fcntl.ioctl(
            control,
            0xC138FD00 | command,
            bytearray((head.ljust(_DM_HEAD, b"\0") + table).ljust(_DM_BYTES, b"\0")),
            True,
        )
    finally:
        os.close(control)


def mapped(name: str, target: str, parameters: str) -> str:
    """Makes a mapped device of SIZE; its number."""
    device_mapper(_DM_CREATE, name)
    text = parameters.encode() + b"\0"
    text = text.ljust(-(-len(text) // 8) * 8, b"\0")
    device_mapper(_DM_LOAD, name, struct.pack("2QiI16s", 0, SIZE // 512, 0, 40 + len(text), target.encode()) + text)
    device_mapper(_DM_RESUME, name)
    (number,) = (
        (path / "dev").read_text().strip()
        for path in Path("/sys/block").glob("dm-*")
        if (path / "dm/name").read_text().strip() == name
    )
    return number


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Takes apart what was put on each other, from the top."""
    for module in ("loop", "dm-mod", "dm-mirror"):
        subprocess.run(["modprobe", module], check=True)
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def loop(stack: ExitStack) -> Callable[[Path], str]:
    """Makes a loop device of a new file of SIZE; its number."""

    def make(image: Path) -> str:
        with image.open("wb") as file:
            file.truncate(SIZE)
        stack.callback(image.unlink)
        found = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
        device = found.stdout.strip()
        stack.callback(subprocess.run, ["losetup", "--detach", device], check=True)
        return Path(f"/sys/block/{Path(device).name}/dev").read_text().strip()

    return make


@pytest.fixture
def container(own_cgroup: Path) -> Iterator[Cgroup]:
    for directory in (find_cgroup2_mount(), own_cgroup):
        control = directory / "cgroup.subtree_control"
        if missing := {"io", "memory"} - set(control.read_text().split()):
            control.write_text(" ".join(f"+{name}" for name in missing))
    cgroup = Cgroup(own_cgroup / f"docker-{'c' * 64}.scope")
    yield cgroup
    cgroup.stop()


def written(container: Cgroup) -> tuple[int, dict[str, tuple[int, bool]]]:
    """Bytes by `resources`, and by device with its mark by `io`."""
    cgroup = ReadCgroup(
        container.id, f"/{container.path.relative_to(find_cgroup2_mount())}", "container", "c" * 64, False
    )
    devices = BlockDevices()
    reader = ResourcesReader(find_cgroup2_mount(), devices=devices)
    (of_cgroup,) = reader.read([cgroup]).rows["resources"]["io_wbytes"]
    reader.close()
    rows = IoDevicesReader(find_cgroup2_mount(), devices).read([cgroup]).rows["io"]
    assert rows.filter(is_summed=1)["io_wbytes"].sum() == of_cgroup
    return of_cgroup, {
        device: (count, is_summed) for device, count, is_summed in
        rows.filter(pl.col("io_wbytes") > 0).select("device", "io_wbytes", "is_summed").iter_rows()
    }  # fmt: skip


def write_to(container: Cgroup, device: str, mib: int) -> None:
    """By the container, past the page cache."""
    node = Path(f"/tmp/node-{device}")
    if not node.exists():
        os.mknod(node, 0o60600, os.makedev(*map(int, device.split(":"))))
    assert container.start(f"exec dd if=/dev/zero of={node} bs=1M count={mib} oflag=direct 2>/dev/null").wait() == 0


def test_a_mapped_device_on_a_mirror_on_two_disks(
    stack: ExitStack, loop: Callable[[Path], str], container: Cgroup
) -> None:
    """Four devices have the bytes; those of the mirror's disks go on in its own threads as well."""
    disks = [loop(Path(f"/dev/shm/disk{number}")) for number in range(2)]
    mirror = mapped("mirror", "mirror", f"core 2 1024 nosync 2 {disks[0]} 0 {disks[1]} 0")
    stack.callback(device_mapper, _DM_REMOVE, "mirror")
    top = mapped("top", "linear", f"{mirror} 0")
    stack.callback(device_mapper, _DM_REMOVE, "top")
    write_to(container, top, 8)
    of_cgroup, devices = written(container)
    assert of_cgroup == 8 * MIB
    assert devices[top] == (8 * MIB, True)
    assert {device for device, (_count, is_summed) in devices.items() if is_summed} == {top}
    assert mirror in devices


def test_a_loop_device_on_a_disk(stack: ExitStack, loop: Callable[[Path], str], container: Cgroup) -> None:
    """With direct I/O the disk has all of its bytes; without, those that it writes are in nobody's row but its own."""
    below = loop(Path("/var/tmp/disk"))
    top = mapped("top", "linear", f"{below} 0")
    stack.callback(device_mapper, _DM_REMOVE, "top")
    write_to(container, top, 8)
    os.sync()
    of_cgroup, devices = written(container)
    assert of_cgroup == 8 * MIB
    assert (devices[top], devices[below]) == ((8 * MIB, True), (8 * MIB, False))
    (name,) = (path.parent.name for path in Path("/sys/block").glob("loop*/dev") if path.read_text().strip() == below)
    subprocess.run(["losetup", "--direct-io=on", f"/dev/{name}"], check=True)
    write_to(container, top, 8)
    of_cgroup, devices = written(container)
    assert of_cgroup == 8 * MIB
    assert (devices.pop(top), devices.pop(below)) == ((16 * MIB, False),) * 2
    assert list(devices.values()) == [(8 * MIB, True)]


def test_a_loop_device_of_a_file_in_memory_counts(loop: Callable[[Path], str], container: Cgroup) -> None:
    device = loop(Path("/dev/shm/disk"))
    write_to(container, device, 4)
    assert written(container) == (4 * MIB, {device: (4 * MIB, True)})
