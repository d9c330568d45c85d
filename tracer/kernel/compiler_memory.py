# SPDX-License-Identifier: Apache-2.0
"""Gives the pages of numba's compiler back once the ring reader is compiled."""

import ctypes
import mmap
from contextlib import suppress
from pathlib import Path

_LIBRARY = "libllvmlite"


def release_compiler_pages() -> None:
    """Drops the code of LLVM from this process's memory (some 40 MB); it is read again if it is called again.

    Only mappings of the file that can be executed and not be written: they have no pages of their own, so that
    nothing is lost (madvise(2), MADV_DONTNEED). Without /proc, or without LLVM in this process, nothing happens.
    """
    libc = ctypes.CDLL(None)
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
            addresses, permissions, *_others = line.split(maxsplit=2)
            if permissions == "r-xp" and _LIBRARY in line:
                start, end = (int(address, 16) for address in addresses.split("-"))
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
