# SPDX-License-Identifier: Apache-2.0
"""File systems that stop taking writes and begin again, by real means. All need root."""

import contextlib
import fcntl
import os
import resource
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from store_examples import fill_up, mounted_tmpfs

# <linux/loop.h>: struct loop_info64, of which lo_sizelimit is the fifth word; and <linux/fs.h>.
LOOP_SET_STATUS64, LOOP_GET_STATUS64 = 0x4C04, 0x4C05
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
_LOOP_INFO_BYTES, _SIZE_LIMIT_AT = 232, 32

Fault = AbstractContextManager[None]
Disk = Iterator[tuple[Path, Callable[[], Fault]]]


@contextlib.contextmanager
def disk_that_fills(directory: Path, options: str = "size=2m") -> Disk:
    """Others take all the space, and give it back."""
    with mounted_tmpfs(directory, options):

        @contextlib.contextmanager
        def full() -> Iterator[None]:
            fill_up(directory / "filler")
            yield
            (directory / "filler").unlink()

        yield directory, full


@contextlib.contextmanager
def disk_without_inodes(directory: Path) -> Disk:
    """Others take all the inodes."""
    with mounted_tmpfs(directory, "size=8m,nr_inodes=100"):

        @contextlib.contextmanager
        def full() -> Iterator[None]:
            taken = []
            with contextlib.suppress(OSError):
                while True:
                    taken.append(directory / f"taken-{len(taken)}")
                    taken[-1].touch()
            yield
            for path in taken:
                path.unlink(missing_ok=True)

        yield directory, full


@contextlib.contextmanager
def disk_that_turns_read_only(directory: Path) -> Disk:
    """As the kernel remounts one after an error."""
    with mounted_tmpfs(directory, "size=8m"):

        @contextlib.contextmanager
        def read_only() -> Iterator[None]:
            # A journal that is open for writing keeps the mount from it, but not another one of the same directory.
            subprocess.run(["mount", "--bind", directory, directory], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
            yield
            subprocess.run(["umount", "--lazy", directory], check=True)

        yield directory, read_only


@contextlib.contextmanager
def loop_disk(directory: Path) -> Iterator[tuple[Path, str]]:
    """An ext4 of one block group without a journal, whose first MiB is taken; where it is mounted, and its device."""
    image, mounted = directory.with_suffix(".image"), directory
    image.write_bytes(b"")
    os.truncate(image, 16 * 2**20)
    features = ["-O", "^has_journal,^resize_inode", "-N", "128", "-E", "lazy_itable_init=1"]
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", *features, image], check=True)
    found = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
    device = found.stdout.strip()
    mounted.mkdir()
    try:
        subprocess.run(["mount", device, mounted], check=True)
        try:
            with (mounted / "taken").open("wb") as file:
                file.write(bytes(2**20))
                os.fsync(file.fileno())
            yield mounted, device
        finally:
            subprocess.run(["umount", "--lazy", mounted], check=True)
    finally:
        # Gone once it is unmounted.
        subprocess.run(["losetup", "--detach", device], check=True)


@contextlib.contextmanager
def disk_with_io_errors(directory: Path) -> Disk:
    """The device ends after half a MiB: what is written beyond that fails as in a disk that is broken."""
    with loop_disk(directory) as (mounted, device):
        # What the device lacks of directories themselves, ext4 says otherwise.
        for table in ("windows", "health"):
            (mounted / "results" / table / "dt=2026-11-22" / "identifier=node-1").mkdir(parents=True)

        @contextlib.contextmanager
        def failing() -> Iterator[None]:
            _limit(device, 2**19)
            yield
            _limit(device, 0)

        yield mounted / "results", failing


@contextlib.contextmanager
def disk_that_hangs(directory: Path) -> Disk:
    """What is written waits until it is over, as on a disk that does not answer."""
    with loop_disk(directory) as (mounted, _device):

        @contextlib.contextmanager
        def frozen() -> Iterator[None]:
            descriptor = os.open(mounted, os.O_RDONLY)
            fcntl.ioctl(descriptor, FIFREEZE, 0)
            try:
                yield
            finally:
                fcntl.ioctl(descriptor, FITHAW, 0)
                os.close(descriptor)

        yield mounted, frozen


@contextlib.contextmanager
def directory_without_descriptors(directory: Path) -> Disk:
    """The process may open no further file (RLIMIT_NOFILE)."""
    directory.mkdir()

    @contextlib.contextmanager
    def no_descriptors() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        yield
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    yield directory, no_descriptors


@contextlib.contextmanager
def directory_that_is_replaced(directory: Path) -> Disk:
    """By a file, as by somebody's mistake."""
    directory.mkdir()

    @contextlib.contextmanager
    def replaced() -> Iterator[None]:
        directory.rename(directory.with_name("moved"))
        directory.touch()
        yield
        directory.unlink()
        directory.with_name("moved").rename(directory)

    yield directory, replaced


def _limit(device: str, size: int) -> None:
    with Path(device).open("rb") as file:
        info = bytearray(_LOOP_INFO_BYTES)
        fcntl.ioctl(file, LOOP_GET_STATUS64, info)
        struct.pack_into("<Q", info, _SIZE_LIMIT_AT, size)
        fcntl.ioctl(file, LOOP_SET_STATUS64, info)
