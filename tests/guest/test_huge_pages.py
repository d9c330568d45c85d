# SPDX-License-Identifier: Apache-2.0
"""Mappings of huge pages and of drivers' buffers, which a machine that is shared must not be set up for."""

import ctypes
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mappings
import pytest
from mappings import ANONYMOUS, HUGE, PRIVATE, SHARED, checked, file_of, kind_at, libc, mapped

pytestmark = [pytest.mark.root, pytest.mark.core]

_RESERVED = Path("/proc/sys/vm/nr_hugepages")
_UDMABUF_CREATE, _DMA_HEAP_ALLOC = 0x40187542, 0xC0184800
_SHM_HUGETLB = 0o4000
_F_ADD_SEALS, _F_SEAL_SHRINK = 1033, 2


@pytest.fixture(scope="module")
def huge() -> Iterator[Path]:
    """Where huge pages can be had as files."""
    before = _RESERVED.read_text()
    _RESERVED.write_text("32")
    directory = Path("/tmp/huge")
    directory.mkdir()
    subprocess.run(["mount", "-t", "hugetlbfs", "none", directory], check=True)
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)
    directory.rmdir()
    _RESERVED.write_text(before)


def page_size() -> int:
    (line,) = (line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("Hugepagesize:"))
    return int(line.split()[1]) << 10


def touched(address: int) -> int:
    ctypes.memset(address, 1, 1)
    return address


@pytest.mark.usefixtures("huge")
def test_huge_pages_of_no_file() -> None:
    size = page_size()
    assert kind_at(touched(mapped(-1, PRIVATE | ANONYMOUS | HUGE, size))) == "anonymous"
    assert kind_at(touched(mapped(-1, SHARED | ANONYMOUS | HUGE, size))) == "shared"
    memory = os.memfd_create("jit", os.MFD_HUGETLB)
    os.ftruncate(memory, size)
    assert kind_at(touched(mapped(memory, SHARED, size))) == "shared"
    segment = checked(libc.shmget(0, size, 0o1600 | _SHM_HUGETLB))
    address = checked(libc.shmat(segment, None, 0))
    libc.shmctl(segment, 0, None)
    assert kind_at(touched(address)) == "shared"


def test_files_of_huge_pages(huge: Path) -> None:
    size = page_size()
    descriptor = file_of(huge / "anon_hugepage", size)
    private, shared = touched(mapped(descriptor, PRIVATE, size)), touched(mapped(descriptor, SHARED, size))
    for _time in range(2):
        assert (kind_at(private), kind_at(shared)) == ("file", "shared")
        # The second time deleted, so that the name is that of a mapping without a file.
        (huge / "anon_hugepage").unlink(missing_ok=True)


@pytest.mark.usefixtures("huge")
def test_huge_pages_have_their_bytes_and_their_path() -> None:
    def bytes_of_huge_pages() -> int:
        of_all = {(one["path"], one["kind"]): one["uss_bytes"] for one in mappings.own_regions()}
        return of_all.get(("/anon_hugepage (deleted)", "shared"), 0)

    before = bytes_of_huge_pages()
    touched(mapped(-1, SHARED | ANONYMOUS | HUGE, page_size()))
    assert bytes_of_huge_pages() == before + page_size()


def test_buffers_of_drivers_and_memory_of_the_machine() -> None:
    found = 0
    if Path("/dev/udmabuf").exists():
        memory = os.memfd_create("buffer", os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, 1 << 16)
        checked(libc.fcntl(memory, _F_ADD_SEALS, _F_SEAL_SHRINK))
        asked = ctypes.create_string_buffer(struct.pack("IIQQ", memory, 1, 0, 1 << 16))
        buffer = checked(libc.ioctl(os.open("/dev/udmabuf", os.O_RDWR), ctypes.c_ulong(_UDMABUF_CREATE), asked))
        assert kind_at(mapped(buffer, SHARED)) == "device"
        found += 1
    if Path("/dev/dma_heap/system").exists():
        asked = ctypes.create_string_buffer(struct.pack("QIIQ", 1 << 16, 0, os.O_RDWR | os.O_CLOEXEC, 0))
        heap = os.open("/dev/dma_heap/system", os.O_RDWR)
        checked(libc.ioctl(heap, ctypes.c_ulong(_DMA_HEAP_ALLOC), asked))
        assert kind_at(mapped(struct.unpack_from("QI", asked)[1], SHARED)) == "device"
        found += 1
    if Path("/dev/mem").exists():
        assert kind_at(mapped(os.open("/dev/mem", os.O_RDONLY), SHARED, 4096, writable=False)) == "device"
        found += 1
    assert found
