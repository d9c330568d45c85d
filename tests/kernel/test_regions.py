# SPDX-License-Identifier: Apache-2.0
"""Kinds of mappings, on real ones of this kernel. Those of huge pages and of devices are in tests/guest/."""

import ctypes
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mappings
import polars as pl
import pytest
from mappings import ANONYMOUS, PRIVATE, SHARED, checked, file_of, kind_at, libc, mapped

from tracer.readers.processes import ProcessesReader
from tracer.readers.protocol import Cgroup
from tracer.readers.pss import PssSums

pytestmark = [pytest.mark.root, pytest.mark.core]

SOL_PACKET, PACKET_RX_RING = 263, 5
# As the kernel names what is in none of its directories.
HOSTILE_NAMES = ["memfd:x", "anon_hugepage", "SYSV00000000", "[aio]", "dmabuf:", "a b\nc rw-s 00:01 [heap]", "zero"]


@pytest.fixture
def memory_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs where no name would tell."""
    directory = tmp_path / "on_memory"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


def test_anonymous_and_shared_memory() -> None:
    assert kind_at(mapped(-1, PRIVATE | ANONYMOUS)) == "anonymous"
    assert kind_at(mapped(-1, SHARED | ANONYMOUS)) == "shared"
    memory = os.memfd_create("jit")
    os.ftruncate(memory, 1 << 16)
    assert kind_at(mapped(memory, SHARED)) == "shared"
    assert kind_at(mapped(memory, PRIVATE)) == "shared"
    segment = checked(libc.shmget(0, 1 << 16, 0o1600))
    address = checked(libc.shmat(segment, None, 0))
    libc.shmctl(segment, 0, None)
    assert kind_at(address) == "shared"
    zero = os.open("/dev/zero", os.O_RDWR)
    assert kind_at(mapped(zero, SHARED)) == "shared"
    assert kind_at(mapped(zero, PRIVATE)) == "anonymous"


def test_what_only_the_kernel_makes() -> None:
    secret = libc.syscall(mappings.MEMFD_SECRET, 0)
    # Since v5.14, where it is built in and not turned off.
    if secret >= 0:
        os.ftruncate(secret, 1 << 16)
        assert kind_at(mapped(secret, SHARED)) == "shared"
    context = ctypes.c_ulong(0)
    checked(libc.syscall(mappings.IO_SETUP, 128, ctypes.byref(context)))
    assert kind_at(context.value) == "device"
    ring = libc.syscall(mappings.IO_URING_SETUP, 4, ctypes.create_string_buffer(120))
    # kernel.io_uring_disabled may be set.
    if ring >= 0:
        assert kind_at(mapped(ring, SHARED, 1)) == "device"
    software_clock = ctypes.create_string_buffer(struct.pack("II", 1, 64), 64)
    event = checked(libc.syscall(mappings.PERF_EVENT_OPEN, software_clock, 0, -1, -1, 0))
    assert kind_at(mapped(event, SHARED, 1 << 13)) == "device"
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        packets.setsockopt(SOL_PACKET, PACKET_RX_RING, struct.pack("IIII", 4096, 1, 2048, 2))
        assert kind_at(mapped(packets.fileno(), SHARED, 4096)) == "device"


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_file_is_a_file_whatever_it_is_called(tmp_path: Path, name: str, is_deleted: bool) -> None:
    """Where the tests' directory is in memory itself, a shared mapping is shared memory."""
    (tmp_path / "dev").mkdir()
    path = tmp_path / "dev" / name
    descriptor = file_of(path)
    private, shared = mapped(descriptor, PRIVATE), mapped(descriptor, SHARED)
    if is_deleted:
        path.unlink()
    file_system = subprocess.run(
        ["stat", "-f", "-c", "%T", tmp_path], check=True, capture_output=True, text=True
    ).stdout
    is_in_memory = file_system == "tmpfs\n"
    assert (kind_at(private), kind_at(shared)) == ("file", "shared" if is_in_memory else "file")


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_file_in_memory_is_shared_memory_where_it_is_mapped_so(memory_disk: Path, is_deleted: bool) -> None:
    descriptor = file_of(memory_disk / "libc.so.6")
    private, shared = mapped(descriptor, PRIVATE), mapped(descriptor, SHARED)
    if is_deleted:
        (memory_disk / "libc.so.6").unlink()
    assert (kind_at(private), kind_at(shared)) == ("file", "shared")


def test_a_device_is_one_wherever_its_node_is(memory_disk: Path) -> None:
    """Runtimes make the nodes of a container in a tmpfs, with any name."""
    node = memory_disk / "gpu0"
    os.mknod(node, 0o20600, os.makedev(1, 5))
    assert kind_at(mapped(os.open(node, os.O_RDWR), PRIVATE)) == "anonymous"


def test_what_a_kernel_file_shows_is_no_file_on_a_disk() -> None:
    types = Path("/sys/kernel/btf/vmlinux")
    try:
        address = mapped(os.open(types, os.O_RDONLY), PRIVATE, 4096, writable=False)
    except OSError:
        # Before v6.16 it cannot be mapped, and there may be none.
        return
    assert kind_at(address) == "device"


def test_what_a_container_has_mounted(memory_disk: Path, tmp_path: Path) -> None:
    """In a mount namespace of its own, where what it maps is not to be seen from here."""
    program = f"""
import mmap, os, subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "{memory_disk}"], check=True)
with open("{memory_disk}/only there", "wb+") as file:
    file.truncate(1 << 16)
    shared = mmap.mmap(file.fileno(), 0)
os.write(1, b"ready")
sys.stdin.read()
"""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", program]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"ready"
        (tmp_path / "cgroup.procs").write_text(f"{process.pid}\n")
        reader = ProcessesReader(tmp_path, PssSums(), largest_bytes=1 << 40, budget_ns=10**9, with_regions=True)
        regions = reader.read([Cgroup(tmp_path.stat().st_ino, "/", "other", None, False)]).rows["regions"]
        assert regions.filter(path=f"{memory_disk}/only there")["kind"].to_list() == ["shared"]
        assert regions.filter(pl.col("path").str.contains("libc.so"))["kind"].unique().to_list() == ["file"]
    finally:
        process.communicate()


def test_the_kinds_of_every_process() -> None:
    kinds = {region["path"]: region["kind"] for region in mappings.own_regions()}
    assert kinds["[heap]"] == "heap"
    assert kinds["[stack]"] == "stack"
    assert kinds["[vdso]"] == "kernel"
    assert kinds[None] == "anonymous"
    assert next(kind for path, kind in kinds.items() if "libc.so" in str(path)) == "file"
