# SPDX-License-Identifier: Apache-2.0
"""What goes into a guest: the checkout as it is, the command, and what numba compiled in an earlier guest.

On request also the container image of the checkout, which is made for that, as a guest has no network.
"""

import hashlib
import io
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from virtual_machine.host import CACHE, PROJECT, HostError, command, content_key, made_once, run

# numba takes a cached function for the current one by its file's time and size; what the cache is for is in its name.
_FILE_TIME = 1_000_000_000
_KEPT = 16
_IN_IMAGE = (
    "tracer/",
    "bpf_programs/",
    "deploy/",
    "requirements",
    "pyproject.toml",
    "scripts/i",
    "scripts/s",
    "scripts/man",
)


def write_input(path: Path, arguments: Sequence[str], processor: str, *, container_image: bool) -> Path:
    """Writes the archive; the directory where what numba compiles for this processor is kept."""
    compiled = CACHE / f"vm-numba-{_compiled_key(processor)}"
    with tarfile.open(path, "w:") as archive:
        for name in _files_of_project():
            archive.add(PROJECT / name, f"opt/tracer/{name}", recursive=False, filter=_with_fixed_time)
        if compiled.exists():
            archive.add(compiled, "guest/numba")
        if container_image:
            archive.add(_image(), "guest/tracer.oci.tar")
        _add_text(archive, "guest/command", f"exec {shlex.join(arguments)}\n")
    return compiled


def keep_compiled(taken: Path, compiled: Path) -> None:
    """Keeps what a guest compiled; what was compiled longest ago goes."""
    if compiled.exists() or not any(taken.iterdir()):
        return
    part = compiled.with_name(f".{compiled.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(taken, part)
    part.rename(compiled)
    kept = sorted(CACHE.glob("vm-numba-*"), key=lambda path: path.stat().st_mtime)
    for old in kept[:-_KEPT]:
        shutil.rmtree(old)


def _compiled_key(processor: str) -> str:
    key = hashlib.sha256(processor.encode())
    for source in sorted((PROJECT / "tracer").rglob("*.py")):
        if "numba" in (text := source.read_text()):
            key.update(text.encode())
    return key.hexdigest()[:16]


def _image() -> Path:
    """The archive, made anew where something that is in it, or makes it, has changed."""
    files = [PROJECT / name for name in _files_of_project() if name.startswith(_IN_IMAGE)]

    def make(directory: Path) -> None:
        run(PROJECT / "scripts" / "image", directory / "tracer.oci.tar")

    return made_once("vm-image", content_key(*sorted(files)), make) / "tracer.oci.tar"


def _files_of_project() -> list[str]:
    """Committed files, changed or not, and new ones that are not ignored."""
    # The checkout may be another user's than root's.
    git = [command("git"), "-c", f"safe.directory={PROJECT}"]
    files = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(files, cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode:
        raise HostError(f"{PROJECT} is no git checkout: {listed.stderr.strip()}")
    return [name for name in listed.stdout.split("\0") if name and (PROJECT / name).exists()]


def _with_fixed_time(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = _FILE_TIME
    return member


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text.encode())
    archive.addfile(member, io.BytesIO(text.encode()))
