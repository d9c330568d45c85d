# SPDX-License-Identifier: Apache-2.0
"""Loads BPF programs through a short-lived child and takes over their descriptors."""

import os
import platform
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from tracer.errors import NodeUnsupportedError, TracerError
from tracer.kernel.loader_process import LoadReply, LoadRequest

# In a checkout the programs lie beside the package, in an installed wheel inside it.
_PLACES = (Path(__file__).parents[1] / "bpf_programs", Path(__file__).parents[2] / "bpf_programs")

# It compiles within 2 s, but a crowded node may let it wait: in an emulated guest it took more than a minute.
_TIMEOUT_SECONDS = 180


def programs_directory() -> Path:
    """Where the C files lie. Raises TracerError for an incomplete installation."""
    for place in _PLACES:
        if (place / "cgroup_ticks.c").is_file():
            return place
    raise TracerError("the BPF programs are missing from this installation of tracer: install it again")


def host_headers() -> Path | None:
    """The running kernel's headers where BCC looks for them itself, or None."""
    modules = Path("/lib/modules") / os.uname().release
    complete = (modules / "build" / "include" / "linux" / "kconfig.h").is_file() or (
        modules / "source" / "include" / "linux" / "kconfig.h"
    ).is_file()
    return modules if complete else None


class LoadSpec(NamedTuple):
    """What to load: the functions and maps of one file of `bpf_programs/`."""

    source: str
    """The file's name."""
    functions: Mapping[str, str]
    """The type of each function by BCC's name for it, such as RAW_TRACEPOINT."""
    maps: Sequence[str]
    definitions: Mapping[str, str]
    """Become -D flags of the compiler."""
    optional: Mapping[str, str] = {}
    """Further ones, left out where the kernel refuses what they lead to."""


class ProgramLoadError(NodeUnsupportedError):
    """The programs do not compile, or the kernel refuses them."""


class Programs:
    """Descriptors of the loaded programs and their maps, by name; closed as one."""

    def __init__(self, descriptors: dict[str, int], bcc_version: str, definitions: Mapping[str, str]) -> None:
        self._descriptors = descriptors
        self.bcc_version = bcc_version
        self.definitions = definitions
        """What they were compiled with."""

    def __getitem__(self, name: str) -> int:
        return self._descriptors[name]

    def close(self) -> None:
        """Closes all descriptors; what is still attached keeps its program alive."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class ProgramLoad:
    """A load under way: the child compiles while the caller does something else.

    The host's kernel headers are taken where they are complete, and the few bundled ones otherwise or when the host's
    do not compile.
    """

    def __init__(self, spec: LoadSpec) -> None:
        # Before Linux kernel commit d5299b67dd59 ("bpf: Memcg-based memory accounting for bpf maps") (in v5.11),
        # maps counted as locked memory.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        directory = programs_directory()
        headers = str(directory / "headers")
        request = LoadRequest(
            source=str(directory / spec.source),
            definitions={**spec.definitions, **spec.optional},
            functions=dict(spec.functions),
            maps=list(spec.maps),
            kernel_source=None if host_headers() else headers,
        )
        # What is tried where this fails. Headers of another build, or a clang too old for them: the bundled ones do
        # not depend on either.
        self._further = []
        if spec.optional:
            self._further.append(msgspec.structs.replace(request, definitions=dict(spec.definitions)))
        if request.kernel_source is None:
            self._further += [
                msgspec.structs.replace(attempt, kernel_source=headers) for attempt in (request, *self._further)
            ]
        self._request = request
        self._start()

    def _start(self) -> None:
        # A file, not a pipe: a verifier's log is longer than a pipe holds, and is read only at the end. In memory, as
        # there may be no directory that can be written.
        self._said = os.fdopen(os.memfd_create("loader-said"), "w+b")
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-m", "tracer.kernel.loader_process", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=[theirs.fileno()],
                # A Ctrl-C is the tracer's to handle.
                start_new_session=True,
            )
        self._socket = ours
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):
            self._child.stdin.write(msgspec.json.encode(self._request))
        with suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.stdin = None

    def result(self) -> Programs:
        """Waits for the child. Raises ProgramLoadError with what BCC or the verifier said."""
        programs, reason = self._receive()
        while programs is None and self._further:
            self._request = self._further.pop(0)
            self._start()
            programs, reason = self._receive()
        if programs is None:
            raise ProgramLoadError(f"the BPF programs cannot be loaded: {reason}")
        return programs

    def _receive(self) -> tuple[Programs | None, str]:
        names = [*self._request.functions, *self._request.maps]
        try:
            # The reply and its descriptors come first, so that a child which stays silent ends by its time.
            self._socket.settimeout(_TIMEOUT_SECONDS)
            message, descriptors, _flags, _address = socket.recv_fds(self._socket, 65536, len(names))
            self._child.wait(_TIMEOUT_SECONDS)
        except (TimeoutError, subprocess.TimeoutExpired):
            self._kill()
            return None, f"the compiler did not finish within {_TIMEOUT_SECONDS} s"
        finally:
            self._socket.close()
            self._said.seek(0)
            said = self._said.read().decode(errors="replace")
            self._said.close()
        if not message:
            return None, _explain(said) or f"the loader ended with code {self._child.returncode}"
        reply = msgspec.json.decode(message, type=LoadReply)
        if reply.error:
            return None, _explain(said) or reply.error
        return Programs(dict(zip(names, descriptors, strict=True)), reply.bcc_version, self._request.definitions), ""

    def cancel(self) -> None:
        """Ends the child, waits for it and forgets what it said. Can be called at any time and twice."""
        self._kill()
        self._socket.close()
        self._said.close()

    def _kill(self) -> None:
        self._child.send_signal(signal.SIGKILL)
        self._child.wait()


def _explain(said: str) -> str:
    """The line of a compiler's or verifier's output that names the fault, or an empty string."""
    # The verifier ends its log with statistics; what it found lies before them.
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("processed ")]
    for line in lines:
        if "error:" in line or "Operation not permitted" in line or "Unable to find kernel headers" in line:
            return line
    return lines[-1] if lines else ""


def machine_is_known() -> bool:
    """Whether the tracer knows this processor's system call numbers and headers."""
    return platform.machine() in ("x86_64", "aarch64")
