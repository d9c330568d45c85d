# SPDX-License-Identifier: Apache-2.0
"""The short-lived child that compiles and loads the BPF programs, hands their descriptors over and exits.

Clang and LLVM stay in this process (about 110 MB). It reads one `LoadRequest` as JSON from standard input, and
answers over the socket given as its only argument: one `LoadReply` as JSON with the descriptors attached. What BCC
and clang print goes to standard error, which the parent keeps for its message.
"""

import importlib
import os
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

# Where Debian and Ubuntu put python3-bpfcc. Appended, not put first: the system's own old packages there (numpy's,
# cffi's) must not hide those of this environment.
SYSTEM_PACKAGES = "/usr/lib/python3/dist-packages"


class LoadRequest(msgspec.Struct):
    """What to compile. `definitions` become -D flags; `functions` give each function's type by BCC's name for it."""

    source: str
    definitions: dict[str, str]
    functions: dict[str, str]
    maps: list[str]
    kernel_source: str | None


class LoadReply(msgspec.Struct):
    """The descriptors follow in the order of `functions`, then `maps`, of the request; none where there is an error."""

    bcc_version: str = ""
    error: str = ""


def import_bcc() -> ModuleType:
    """BCC's Python module. Raises ImportError with one line that says what to install."""
    try:
        module = importlib.import_module("bcc")
    except ImportError:
        sys.path.append(SYSTEM_PACKAGES)
        try:
            module = importlib.import_module("bcc")
        except ImportError as error:
            raise ImportError(f"BCC is not installed ({error}): apt-get install python3-bpfcc") from None
    if module.__file__ is None:
        raise ImportError("BCC is not installed (an empty directory is): apt-get install python3-bpfcc")
    if not hasattr(module, "BPF"):
        raise ImportError(
            "the installed `bcc` is PyPI's unrelated package: pip uninstall bcc, apt-get install python3-bpfcc"
        )
    return module


def _load(request: LoadRequest) -> tuple[LoadReply, list[int], Any]:
    if request.kernel_source is not None:
        os.environ["BCC_KERNEL_SOURCE"] = request.kernel_source
    try:
        bcc = import_bcc()
    except ImportError as error:
        return LoadReply(error=str(error)), [], None
    directory = str(Path(request.source).parent)
    flags = [f"-D{name}={value}" for name, value in request.definitions.items()]
    # BCC raises a bare Exception with the reason only on standard error, which the parent reads.
    try:
        programs = bcc.BPF(src_file=request.source, cflags=[f"-I{directory}", *flags])
        loaded = [programs.load_func(name, getattr(bcc.BPF, kind)).fd for name, kind in request.functions.items()]
        maps = [programs[name].map_fd for name in request.maps]
    except Exception as error:
        return LoadReply(error=f"{type(error).__name__}: {error}"), [], None
    return LoadReply(bcc_version=str(bcc.__version__)), loaded + maps, programs


def main() -> None:
    """Entry point of the child."""
    reply_socket = socket.socket(fileno=int(sys.argv[1]))
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadRequest)
    # `programs` keeps the descriptors open until they are sent.
    reply, descriptors, programs = _load(request)
    socket.send_fds(reply_socket, [msgspec.json.encode(reply)], descriptors)
    reply_socket.close()
    del programs
    # BCC's clean-up at exit would only take time: the kernel closes everything.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
