# SPDX-License-Identifier: Apache-2.0
"""A disk whose power can be cut at any moment: what it was made with, and what it had to keep of what came since.

QEMU shows it as a file (FUSE), on which a loop device lies, and logs what is written to it in the form of the kernel's
dm-log-writes (drivers/md/dm-log-writes.c): a sector with the log's head, then for each write a sector that describes
it, and its data. The head has the number of entries at the last flush. What came after that a real disk may have kept
in memory only, and what the kernel has not written at all is in no log.
"""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

from virtual_machine.emulator import emulator

_MAGIC = 0x6A736677736872
_HEAD = Struct("<QQQI")
_ENTRY = Struct("<QQQQ")
_DISCARD = 4
_BYTES = 1 << 28


class LoggedDisk:
    """An ext4 file system on such a disk, mounted at `mounted` while this is open. Needs root."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._first = directory / "first"
        self._log = directory / "log"
        self._number = 0
        self._directory = directory
        self.mounted = directory / "mounted"
        with self._first.open("wb") as file:
            file.truncate(_BYTES)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", self._first], check=True)

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        """Gives QEMU's process id."""
        image, shown = self._directory / "image", self._directory / "shown"
        shutil.copy(self._first, image)
        self._log.touch()
        shown.touch()
        command = [
            *(*emulator("x86_64"), "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"),
            *("-blockdev", f"driver=file,node-name=image,filename={image}"),
            *("-blockdev", f"driver=file,node-name=log,filename={self._log}"),
            *("-blockdev", "driver=blklogwrites,node-name=data,file=image,log=log"),
        ]
        export = {"type": "fuse", "id": "data", "node-name": "data", "mountpoint": str(shown), "writable": True}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as qemu:
            try:
                assert qemu.stdin is not None
                assert qemu.stdout is not None
                assert "QMP" in qemu.stdout.readline()
                for request in ({"execute": "qmp_capabilities"}, {"execute": "block-export-add", "arguments": export}):
                    qemu.stdin.write(json.dumps(request) + "\n")
                    qemu.stdin.flush()
                    assert qemu.stdout.readline() == '{"return": {}}\n'
                with _mounted(shown, self.mounted):
                    yield qemu.pid
            finally:
                qemu.terminate()
                qemu.communicate()

    @contextlib.contextmanager
    def without_power(self, log: Path) -> Iterator[Path]:
        """The file system by a log that was kept, mounted: its own journal makes it whole."""
        self._number += 1
        disk = self._directory / f"disk-{self._number}"
        shutil.copy(self._first, disk)
        replay(log, disk)
        with _mounted(disk, self._directory / f"mounted-{self._number}") as mounted:
            yield mounted
        disk.unlink()

    def cut(self) -> Path:
        """The log as of now, as if the power went."""
        self._number += 1
        return Path(shutil.copy(self._log, self._directory / f"log-{self._number}"))


def replay(log: Path, disk: Path) -> None:
    """Writes to `disk`, as it was at first, what was flushed."""
    with log.open("rb") as entries, disk.open("r+b") as image:
        magic, _version, count, sector_bytes = _HEAD.unpack(entries.read(_HEAD.size))
        assert magic == _MAGIC, "no log of a disk"
        entries.seek(sector_bytes)
        for _entry in range(count):
            sector, sectors, flags, _length = _ENTRY.unpack(entries.read(sector_bytes)[: _ENTRY.size])
            if not flags & _DISCARD and sectors:
                image.seek(sector * sector_bytes)
                image.write(entries.read(sectors * sector_bytes))


@contextlib.contextmanager
def _mounted(disk: Path, directory: Path) -> Iterator[Path]:
    directory.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)
