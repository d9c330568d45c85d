# SPDX-License-Identifier: Apache-2.0
"""Debian's cloud kernels, each with an initial file system that mounts the guest's disks and nothing else."""

import lzma
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from virtual_machine.debian import debian_tree
from virtual_machine.host import command, content_key, made_once, run

SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "7.x": "trixie-backports"}
"""The kernels that `--kernel` takes, and the Debian releases they come from."""

# ext4 is part of each of these kernels.
_MODULES = ("virtio_pci", "virtio_blk", "virtio_console")
_INIT = Path(__file__).with_name("initramfs-init")


class Kernel(NamedTuple):
    """Files to boot from."""

    image: Path
    initramfs: Path
    modules: Path
    """Disk image with `modules/<version>` and, if asked for, `src` with the kernel's headers."""


def kernel(name: str, architecture: str, headers: bool) -> Kernel:
    """One of `SUITES`, for Debian's `architecture`; `headers` adds what Debian packages to build modules."""

    def make(directory: Path) -> None:
        packages = [f"linux-image-cloud-{architecture}", "busybox-static"]
        if headers:
            packages.append(f"linux-headers-cloud-{architecture}")
        tree = directory / "tree"
        debian_tree(tree, SUITES[name], architecture, packages, extract=True)
        modules = next((tree / "usr" / "lib" / "modules").iterdir())
        # Newer packages have the image beside the modules.
        image = next((tree / "boot").glob("vmlinuz-*"), modules / "vmlinuz")
        shutil.copy(image, directory / "vmlinuz")
        run("depmod", "-b", tree, modules.name)
        _make_initramfs(tree, modules, directory / "initramfs")
        content = directory / "content"
        content.mkdir()
        modules.parent.rename(content / "modules")
        if headers:
            (tree / "usr" / "src").rename(content / "src")
        run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", content, directory / "modules.img", "1G")
        shutil.rmtree(tree)
        shutil.rmtree(content)

    title = f"vm-kernel-{name}-{architecture}{'-headers' if headers else ''}"
    here = Path(__file__)
    made = made_once(title, content_key(here, _INIT, here.with_name("debian.py")), make)
    return Kernel(made / "vmlinuz", made / "initramfs", made / "modules.img")


def _make_initramfs(tree: Path, modules: Path, target: Path) -> None:
    root = target.with_name("initramfs-root")
    for directory in ("bin", "dev", "modules", "proc", "root", "sys"):
        (root / directory).mkdir(parents=True)
    shutil.copy(next(tree.glob("usr/bin/busybox")), root / "bin")
    shutil.copy(_INIT, root / "init")
    for number, module in enumerate(_modules_in_order(modules)):
        content = module.read_bytes()
        if module.suffix == ".xz":
            content = lzma.decompress(content)
        (root / "modules" / f"{number:02}-{module.name.removesuffix('.xz')}").write_bytes(content)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with target.open("wb") as archive:
        subprocess.run([command("cpio"), "-o", "-H", "newc", "--quiet"], cwd=root, input=names.encode(),
                       stdout=archive, check=True)  # fmt: skip
    shutil.rmtree(root)


def _modules_in_order(modules: Path) -> list[Path]:
    """The modules of `_MODULES` that are not part of the kernel, each after those it needs (modules.dep(5))."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        module, needed = line.split(":")
        needs[Path(module).name.split(".")[0]] = [*reversed(needed.split()), module]
    wanted = [path for name in _MODULES for path in needs.get(name, [])]
    return [modules / path for path in dict.fromkeys(wanted)]
