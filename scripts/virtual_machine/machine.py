# SPDX-License-Identifier: Apache-2.0
"""One guest: its QEMU command, its disks, and what it brings back."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from virtual_machine.emulator import emulator
from virtual_machine.host import HostError, end_with_parent, need_memory, run, temporary_directory, undisturbed
from virtual_machine.images import root_image
from virtual_machine.kernels import Kernel, kernel
from virtual_machine.payload import keep_compiled, write_input

_PROBE_SECONDS = 20
_BOOT_SECONDS = 120
_BOOTS = 3
_IS_UP = b"guest-run: begins"
_OUTPUT_BYTES = 4 << 30
_CONSOLE_LINES = 5


class Guest(NamedTuple):
    """What to boot."""

    kernel: str
    architecture: str
    """As the kernel names it: x86_64 or arm64."""
    system: str
    headers: bool
    cpus: int
    topology: str | None
    """What QEMU's -smp takes after the number: sockets=…,dies=…,cores=…,threads=…."""
    numa_nodes: int
    count_instructions: bool
    """Time is made of instructions, each 2 ns, and with it the processor counts them exactly."""
    memory_mib: int
    boot_options: Sequence[str]
    timeout_seconds: int
    container_image: bool
    """Bring the image of scripts/image."""
    disk: Path | None
    """A file that is a further disk. What the guest flushed to it is there also if the emulator is killed."""


def run_guest(guest: Guest, arguments: Sequence[str], results: Path | None) -> int:
    """Boots the guest, runs the command in it, copies its /results to `results`; the command's exit code.

    What the command prints comes on standard output while it runs. HostError if there was no guest or no end.
    """
    debian = {"x86_64": "amd64", "arm64": "arm64"}[guest.architecture]
    need_memory(guest.memory_mib + 512)
    files = kernel(guest.kernel, debian, guest.headers)
    root = root_image(guest.system, debian)
    with temporary_directory() as directory:
        processor = _processor(guest, files)
        compiled = write_input(
            directory / "input", arguments, " ".join(processor), container_image=guest.container_image
        )
        with (directory / "output").open("wb") as output:
            output.truncate(_OUTPUT_BYTES)
        qemu = [
            *processor,
            *_topology(guest),
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"),
            *("-kernel", str(files.image), "-initrd", str(files.initramfs), "-append", _command_line(guest)),
            *("-serial", f"file:{directory}/console"),
            *_disk("root", root, "snapshot=on"),
            *_disk("modules", files.modules, "readonly=on"),
            *_disk("input", directory / "input", "readonly=on"),
            *_disk("output", directory / "output", "cache=unsafe"),
            *(_disk("disk", guest.disk.absolute(), "cache=none") if guest.disk is not None else ()),
            *("-device", "virtio-serial-pci", "-chardev", "stdio,id=out,signal=off"),
            *("-device", "virtconsole,chardev=out"),
        ]
        _run(qemu, guest.timeout_seconds, directory)
        return _take_output(directory, results, compiled)


def _processor(guest: Guest, files: Kernel) -> list[str]:
    """The emulator with the processor and its acceleration."""
    if guest.architecture == "arm64":
        # Pointer authentication and vectors are slow to emulate, and nothing here needs them.
        processor = [*emulator("aarch64"), "-M", "virt", "-cpu", "max,pmu=on,pauth=off,sve=off,sme=off"]
        if guest.count_instructions:
            return [*processor, "-accel", "tcg,thread=single", "-icount", "shift=1"]
        return [*processor, "-accel", "tcg,thread=multi"]
    x86_64 = emulator("x86_64")
    # The oldest that Polars runs on (AVX2): with all that can be emulated (`max`), 5.10 stops at boot and others were
    # seen to. The level is one past the leaf that tells of dies (0x1f): at that leaf itself QEMU 10.0 ends on an
    # assertion when the firmware asks for a leaf beyond the last.
    model = "Haswell-noTSX,level=0x20"
    if _kvm_works(x86_64, files):
        return [*x86_64, "-accel", "kvm", "-cpu", "host" if not guest.topology else model]
    # More than one thread was seen to stall 5.10.
    return [*x86_64, "-accel", f"tcg,thread={'single' if guest.kernel == '5.10' else 'multi'}", "-cpu", model]


def _kvm_works(x86_64: Sequence[str], files: Kernel) -> bool:
    """Whether a kernel gets as far as its first process: in a virtual machine KVM may open and still not work."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.NamedTemporaryFile() as console:
        probe = [
            *(*x86_64, "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-no-reboot", "-display", "none"),
            # Without an init the kernel panics, and ends the machine with that.
            *("-kernel", str(files.image), "-append", "console=ttyS0 panic=-1", "-serial", f"file:{console.name}"),
        ]
        try:
            subprocess.run(probe, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                           timeout=_PROBE_SECONDS, preexec_fn=_emulator_ends_with_us())  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
        return b"Kernel panic" in Path(console.name).read_bytes()


def _topology(guest: Guest) -> list[str]:
    cpus = f"{guest.cpus},{guest.topology}" if guest.topology else str(guest.cpus)
    options = ["-smp", cpus, "-m", f"{guest.memory_mib}M"]
    if guest.topology:
        # To each die a last-level cache of its own.
        options += ["-machine", "smp-cache.0.cache=l3,smp-cache.0.topology=die"]
    for node in range(guest.numa_nodes):
        memory = guest.memory_mib // guest.numa_nodes
        first, end = (guest.cpus * number // guest.numa_nodes for number in (node, node + 1))
        options += ["-object", f"memory-backend-ram,id=memory{node},size={memory}M"]
        options += ["-numa", f"node,nodeid={node},cpus={first}-{end - 1},memdev=memory{node}"]
    return options


def _command_line(guest: Guest) -> str:
    console = "ttyAMA0" if guest.architecture == "arm64" else "ttyS0"
    init = "/sbin/init" if guest.system == "systemd" else "/guest-init"
    words = [f"console={console}", "panic=-1", f"guest.init={init}", *guest.boot_options]
    if guest.architecture == "x86_64":
        # The kernel is not to use CMPXCHG16B (X86_FEATURE_CX16): emulated on several CPUs it was seen to set the trap
        # flag, and the kernel to panic.
        words.append("clearcpuid=141")
    return " ".join(words)


def _disk(serial: str, path: Path, options: str) -> list[str]:
    drive = f"if=none,id={serial},format=raw,file={path},{options}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={serial},serial={serial}"]


def _run(qemu: Sequence[str], timeout_seconds: int, directory: Path) -> None:
    """Runs the emulator to its end; a guest that does not come up is started anew, which an emulated one may need."""
    for _attempt in range(_BOOTS):
        with _started(qemu, directory) as process:
            try:
                if _is_up(process, directory / "console"):
                    process.wait(timeout_seconds)
                    return
            except subprocess.TimeoutExpired:
                raise HostError(f"the guest did not end within {timeout_seconds} s; {_last_words(directory)}") from None
        if process.returncode > 0:
            said = " | ".join((directory / "errors").read_text(errors="replace").strip().splitlines()[-3:])
            raise HostError(f"QEMU ended with {process.returncode}: {said}")
    raise HostError(f"the guest did not come up, {_BOOTS} times; {_last_words(directory)}")


@contextmanager
def _started(qemu: Sequence[str], directory: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """The emulator, which is gone at the end: one that still begins would make files in a directory that goes."""
    with ExitStack() as stack:
        # Made and handed to who ends it in one.
        with undisturbed() as disturbed, (directory / "errors").open("wb") as errors:
            ends_with_us = _emulator_ends_with_us()

            def prepare() -> None:
                disturbed()
                ends_with_us()

            process = subprocess.Popen(qemu, stdin=subprocess.DEVNULL, stderr=errors, start_new_session=True,
                                       preexec_fn=prepare)  # fmt: skip
            stack.callback(_end, process)
        yield process


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _emulator_ends_with_us() -> Callable[[], None]:
    """What its process does first: it ends with this one even if this one is killed."""
    return partial(end_with_parent, signal.SIGKILL, os.getpid())


def _is_up(process: "subprocess.Popen[bytes]", console: Path) -> bool:
    """Waits until the command begins; False if it does not."""
    deadline = time.monotonic() + _BOOT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if console.exists() and _IS_UP in console.read_bytes():
            return True
        time.sleep(0.2)
    return console.exists() and _IS_UP in console.read_bytes()


def _last_words(directory: Path) -> str:
    lines = [line.strip() for line in (directory / "console").read_text(errors="replace").splitlines()]
    # After a panic come only the places in the kernel that led to it.
    panic = next((number for number, line in enumerate(lines) if "Kernel panic" in line), len(lines))
    return "its console's last lines: " + " | ".join(lines[: panic + 1][-_CONSOLE_LINES:])


def _take_output(directory: Path, results: Path | None, compiled: Path) -> int:
    try:
        (directory / "taken").mkdir()
        run("tar", "-x", "--no-same-owner", "-f", directory / "output", "-C", directory / "taken")
        code = int((directory / "taken" / "guest" / "exit-code").read_text())
    except (HostError, OSError, ValueError):
        raise HostError(f"the guest ended without a result; {_last_words(directory)}") from None
    keep_compiled(directory / "taken" / "guest" / "numba", compiled)
    if results is not None:
        shutil.copytree(directory / "taken" / "results", results, dirs_exist_ok=True, symlinks=True)
    return code
