# SPDX-License-Identifier: Apache-2.0
"""QEMU of Debian trixie, run from a tree of its own.

That of bookworm (7.2) computes wrong sums with AVX2 on several emulated CPUs: Polars' tests fail in its guests.
"""

from pathlib import Path

from virtual_machine.debian import debian_tree
from virtual_machine.host import content_key, made_once, native_architecture

_SUITE = "trixie"
_PACKAGES = ["qemu-system-arm", "qemu-system-x86", "ipxe-qemu", "seabios"]
_LOADER = {"amd64": "usr/lib64/ld-linux-x86-64.so.2", "arm64": "usr/lib/ld-linux-aarch64.so.1"}
_TRIPLET = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}


def emulator(processor: str) -> list[str]:
    """The beginning of the command that emulates `x86_64` or `aarch64`."""
    native = native_architecture()

    def make(directory: Path) -> None:
        debian_tree(directory / "tree", _SUITE, native, _PACKAGES, extract=True)

    here = Path(__file__)
    tree = made_once("vm-qemu", content_key(here, here.with_name("debian.py")), make) / "tree"
    libraries = tree / "usr" / "lib" / _TRIPLET[native]
    firmware = [tree / "usr" / name for name in ("share/qemu", "share/seabios", "lib/ipxe/qemu")]
    return [
        str(tree / _LOADER[native]),
        *("--library-path", f"{libraries}:{libraries}/pulseaudio"),
        str(tree / "usr" / "bin" / f"qemu-system-{processor}"),
        *(word for directory in firmware for word in ("-L", str(directory))),
    ]
