# SPDX-License-Identifier: Apache-2.0
"""What the machine must have, and the cache of what takes long to make."""

import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CACHE = Path("/var/cache/tracer-tests")
# A root image, the tree it is made of, and a kernel.
_NEEDED_DISK_BYTES = 8 << 30
# On a disk: what a guest brings back can be larger than memory.
_TEMPORARY = Path("/var/tmp")
_PREFIX = "tracer-vm-"

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

_PACKAGE_OF = {
    "cpio": "cpio",
    "depmod": "kmod",
    "git": "git",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "xz": "xz-utils",
}


class HostError(Exception):
    """Why there is no guest, or no end of it; one line."""


def command(name: str) -> str:
    """The path of one of the machine's commands; HostError names the package that has it."""
    # Some are in directories for root only, which a user's or a service's PATH need not have.
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        raise HostError(f"{name} is missing: install Debian's package {_PACKAGE_OF[name]} (scripts/setup dev)")
    return path


def run(*arguments: str | Path, **options: object) -> None:
    """Runs a command that is to succeed; what it says is shown only in the HostError if it fails."""
    program, *rest = arguments
    program = command(str(program)) if program in _PACKAGE_OF else program
    done = subprocess.run([program, *rest], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace",
                          preexec_fn=partial(end_with_parent, signal.SIGTERM, os.getpid()), **options)  # type: ignore[call-overload]  # fmt: skip
    if done.returncode:
        said = " | ".join(done.stdout.strip().splitlines()[-3:])
        raise HostError(f"{Path(program).name} failed with {done.returncode}: {said}")


def end_with_parent(number: signal.Signals, parent: int) -> None:
    """This process gets the signal once its parent `parent` is gone, however that ended (prctl(2), PR_SET_PDEATHSIG).

    A child may call it between fork and exec. What counts as the parent is the thread that made the process.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, number.value, 0, 0, 0)
    if os.getppid() != parent:
        signal.raise_signal(number)


@contextmanager
def undisturbed() -> Iterator[Callable[[], None]]:
    """Signals that end this process wait meanwhile: for what must not be left half done.

    Gives what a child that is made meanwhile calls between fork and exec, so that they do not wait in there.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))

    def disturbed() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield disturbed
    finally:
        disturbed()


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A new directory, which goes at the end; those of VMs that were killed before their end go as well."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Held by all who look for what is left or make a directory, so that none is taken for left before it is locked.
        with (CACHE / ".temporary.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in _TEMPORARY.glob(f"{_PREFIX}*"):
                _remove_if_left(left)
            with undisturbed():
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_TEMPORARY)))
            descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield directory


def _remove_if_left(directory: Path) -> None:
    """Its lock goes with the process that made it."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


def native_architecture() -> str:
    """As Debian names it: amd64, arm64."""
    run = subprocess.run(["dpkg", "--print-architecture"], check=True, stdout=subprocess.PIPE, text=True)
    return run.stdout.strip()


def need_root() -> None:
    """Trees of Debian packages have root's files in them."""
    if os.geteuid() != 0:
        raise HostError("the VM's images are made as root: sudo scripts/vm …")


def need_memory(mib: int) -> None:
    """Refuses a guest that the machine has no memory for."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) // 1024
    if available < mib:
        raise HostError(f"the guest is to have {mib} MiB of memory, the machine has {available} MiB to spare")


def made_once(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The cached directory `name` as made for `key`: what it depends on, in words of any length.

    `make` fills an empty directory. A directory under its name is whole; one for another key goes. Processes that want
    the same wait for the one that makes it.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    made = CACHE / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    with (CACHE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():
            return made
        for old in CACHE.glob(f"{name}-{'[0-9a-f]' * 16}"):
            shutil.rmtree(old)
        free = shutil.disk_usage(CACHE).free
        if free < _NEEDED_DISK_BYTES:
            raise HostError(f"{CACHE} has {free >> 20} MiB free, making {name} takes {_NEEDED_DISK_BYTES >> 20}")
        part = CACHE / f".{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            make(part)
            # A name is given only to what is on the disk.
            os.sync()
            part.rename(made)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return made


def content_key(*paths: Path) -> str:
    """A key that changes with what the files contain."""
    return " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
