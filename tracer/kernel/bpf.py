# SPDX-License-Identifier: Apache-2.0
"""The few commands of bpf(2) that the tracer itself needs once its programs are loaded.

Command numbers and attribute layouts: `enum bpf_cmd` and `union bpf_attr` in the kernel's include/uapi/linux/bpf.h.
Everything here raises OSError with the kernel's errno; the callers know what it means to the user.
"""

import ctypes
import errno
import os
import platform
import struct
from contextlib import suppress
from pathlib import Path

_SYSCALL_NUMBER = {"x86_64": 321, "aarch64": 280}

_MAP_CREATE = 0
_MAP_UPDATE_ELEM = 2
_MAP_DELETE_ELEM = 3
_PROG_TEST_RUN = 10
_RAW_TRACEPOINT_OPEN = 17
_ENABLE_STATS = 32

_MAP_TYPE_RINGBUF = 27
_TEST_RUN_ON_CPU = 1

# Larger than any attribute used here; the kernel wants the rest to be zero.
_ATTRIBUTE_BYTES = 128

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attribute: bytes) -> int:
    buffer = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
    number = _SYSCALL_NUMBER.get(platform.machine())
    if number is None:
        raise OSError(f"the bpf system call's number on {platform.machine()} is not known here")
    result = int(_libc.syscall(number, command, buffer, _ATTRIBUTE_BYTES))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def create_ring(size_bytes: int) -> int:
    """A ring buffer map of `size_bytes`, a power of two and a multiple of the page size; returns its descriptor."""
    # map_type, key_size, value_size, max_entries
    return _bpf(_MAP_CREATE, struct.pack("IIII", _MAP_TYPE_RINGBUF, 0, 0, size_bytes))


def set_descriptor(map_fd: int, index: int, descriptor: int) -> None:
    """Puts a descriptor (a perf event, a ring) into an array of such: the array then holds its own reference."""
    key, value = ctypes.c_uint32(index), ctypes.c_uint32(descriptor)
    _bpf(_MAP_UPDATE_ELEM, struct.pack("IxxxxQQQ", map_fd, ctypes.addressof(key), ctypes.addressof(value), 0))


def clear_descriptor(map_fd: int, index: int) -> None:
    """Takes out what `set_descriptor` put in; an empty place is no error."""
    key = ctypes.c_uint32(index)
    with suppress(FileNotFoundError):
        _bpf(_MAP_DELETE_ELEM, struct.pack("IxxxxQ", map_fd, ctypes.addressof(key)))


def attach_raw_tracepoint(name: str, program_fd: int) -> int:
    """Attaches a raw tracepoint program; it stays attached while the returned descriptor is open."""
    text = ctypes.create_string_buffer(name.encode())
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("QI", ctypes.addressof(text), program_fd))


def _test_run(program_fd: int, arguments: tuple[int, ...], flags: int, cpu: int) -> None:
    context = struct.pack(f"{len(arguments)}Q", *arguments)
    buffer = ctypes.create_string_buffer(context, len(context) or 1)
    # prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration,
    # ctx_size_in, ctx_size_out, ctx_in, ctx_out, flags, cpu
    _bpf(
        _PROG_TEST_RUN,
        struct.pack(
            "IIIIQQIIIIQQII",
            program_fd, 0, 0, 0, 0, 0, 0, 0,
            len(context), 0, ctypes.addressof(buffer) if context else 0, 0, flags, cpu,
        ),
    )  # fmt: skip


def run_on_cpu(program_fd: int, cpu: int) -> None:
    """Runs a raw tracepoint program once on `cpu`, in an interrupt where that is another CPU than the caller's.

    Since Linux kernel commit 1b4d60ec162f ("bpf: Enable BPF_PROG_TEST_RUN for raw_tracepoint") (in v5.10).
    """
    _test_run(program_fd, (), _TEST_RUN_ON_CPU, cpu)


def run_with_arguments(program_fd: int, *arguments: int) -> None:
    """Runs a raw tracepoint program once on this CPU with up to 12 u64 arguments in its context."""
    _test_run(program_fd, arguments, 0, 0)


def asks_for_capability() -> bool:
    """Whether a thread without CAP_BPF may not even change maps that are open.

    So it was before Linux kernel commit c8644cd0efe7 ("bpf: refine kernel.unprivileged_bpf_disabled behaviour") (in
    v5.19), if kernel.unprivileged_bpf_disabled is set.
    """
    no_map = 0xFFFFFFFF
    try:
        _bpf(_MAP_DELETE_ELEM, struct.pack("IxxxxQ", no_map, 0))
    except OSError as error:
        return error.errno == errno.EPERM
    return False


def enable_statistics() -> int:
    """Makes the kernel time every BPF program while the returned descriptor is open (BPF_STATS_RUN_TIME)."""
    return _bpf(_ENABLE_STATS, struct.pack("I", 0))


def program_statistics(program_fd: int) -> dict[str, int]:
    """`run_time_ns` and `run_cnt` (while statistics are enabled) and `recursion_misses` of a program.

    From the descriptor's fdinfo; a field that this kernel does not show is absent.
    """
    lines = Path(f"/proc/self/fdinfo/{program_fd}").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {key: int(fields[key]) for key in ("run_time_ns", "run_cnt", "recursion_misses") if key in fields}
