# SPDX-License-Identifier: Apache-2.0
"""sysfs of block devices that the machine at hand does not have, with its links as the kernel makes them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tracer.readers.block_devices import BlockDevices


class Disks:
    """A tree under `root` with `sys` and `proc`."""

    def __init__(self, root: Path) -> None:
        self.sysfs, self.proc = root / "sys", root / "proc"
        for directory in ("block", "class/block", "dev/block"):
            (self.sysfs / directory).mkdir(parents=True)
        for process in ("1", "self"):
            (self.proc / process).mkdir(parents=True)
        self.mount()

    def add(
        self, name: str, device: str, *, on: Iterable[str] = (), partitions: Mapping[str, str] | None = None,
        **files: object,
    ) -> None:  # fmt: skip
        """A disk; `on` names disks or partitions, `partitions` has devices by name, `files` are further ones in it."""
        directory = self.sysfs / "devices/virtual/block" / name
        (directory / "slaves").mkdir(parents=True)
        (directory / "holders").mkdir()
        self._describe(directory, name, device, files)
        (self.sysfs / "block" / name).symlink_to(f"../devices/virtual/block/{name}")
        for partition, number in (partitions or {}).items():
            (directory / partition / "holders").mkdir(parents=True)
            self._describe(directory / partition, partition, number, {"partition": 1})
        for below in on:
            target = (self.sysfs / "class/block" / below).resolve()
            (directory / "slaves" / below).symlink_to(target)
            (target / "holders" / name).symlink_to(directory)

    def _describe(self, directory: Path, name: str, device: str, files: Mapping[str, object]) -> None:
        for file, text in {"dev": device, "size": 2048, "hidden": 0, **files}.items():
            path = directory / file.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{text}\n")
        for place in (self.sysfs / "class/block" / name, self.sysfs / "dev/block" / device):
            if not place.is_symlink():
                place.symlink_to(directory)

    def mount(self, *lines: str, swaps: str = "") -> None:
        """Lines `device mount-point type source`."""
        self.proc.joinpath("swaps").write_text(f"Filename\t\t\t\tType\t\tSize\n{swaps}")
        text = ""
        for number, line in enumerate(lines):
            device, place, file_system, source = line.split()
            text += f"{30 + number} 1 {device} / {place} rw,relatime shared:1 - {file_system} {source} rw\n"
        for process in ("1", "self"):
            (self.proc / process / "mountinfo").write_text(text)

    @property
    def left_out(self) -> set[str]:
        """What a new look says."""
        return set(self.devices().stacks().left_out)

    def devices(self) -> BlockDevices:
        return BlockDevices(sysfs=self.sysfs, proc=self.proc)
