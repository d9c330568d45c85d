# SPDX-License-Identifier: Apache-2.0
"""What a process of the tracer holds, as the kernel tells it from outside."""

import ctypes
import os
import platform
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
_PROG_GET_NEXT_ID = 11
_libc = ctypes.CDLL(None)


def _fdinfos(pid: int) -> Iterator[str]:
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        # Closed meanwhile.
        with suppress(FileNotFoundError):
            yield info.read_text()


def sample(pid: int, output: Path) -> dict[str, float]:
    """What is to stay as it is, by name."""
    process = Path(f"/proc/{pid}")
    infos = list(_fdinfos(pid))
    journals = list(_sizes(output.glob("runs/*/journal/*")))
    return {
        "resident memory, MB": int((process / "statm").read_text().split()[1]) * _PAGE / 1e6,
        "file descriptors": len(infos),
        "threads": len(list((process / "task").iterdir())),
        "inotify watches": sum(info.count("inotify wd:") for info in infos),
        "journal files": len(journals),
        "journals, MB": sum(journals) / 1e6,
        "results, bytes": sum(_sizes(_files(output, ".parquet"))),
    }


def _files(top: Path, suffix: str) -> Iterator[Path]:
    """Not `rglob`, which a directory that goes away meanwhile ends."""
    return (Path(at, name) for at, _directories, names in os.walk(top) for name in names if name.endswith(suffix))


def _sizes(paths: Iterator[Path]) -> Iterator[int]:
    for path in paths:
        with suppress(FileNotFoundError):
            yield path.stat().st_size


def programs_of(pid: int) -> set[int]:
    """Ids of the BPF programs that a process holds."""
    return {int(id_) for info in _fdinfos(pid) for id_ in re.findall(r"^prog_id:\t(\d+)$", info, re.MULTILINE)}


def children_of(pid: int) -> set[int]:
    """Processes that a process has started and that have not ended."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


def bpf_programs() -> Iterator[int]:
    """Ids of all programs in the kernel."""
    # Of `union bpf_attr` start_id and next_id (include/uapi/linux/bpf.h).
    attribute = ctypes.create_string_buffer(128)
    while _libc.syscall(_BPF, _PROG_GET_NEXT_ID, attribute, len(attribute)) == 0:
        (number,) = struct.unpack_from("4xI", attribute)
        yield number
        struct.pack_into("I", attribute, 0, number)
