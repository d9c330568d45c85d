# SPDX-License-Identifier: Apache-2.0
"""Capabilities of this process (capabilities(7)), which the kernel keeps for each thread: a new one has its maker's.

So a thread that is to have fewer is made by one that has fewer. `in_thread` is for what starts threads of its own, as
importing Arrow and Polars does.
"""

import ctypes
import importlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import IntFlag
from typing import Final, TypeVar

# include/uapi/linux/capability.h and prctl.h.
_VERSION_3: Final = 0x20080522
_PR_SET_KEEPCAPS: Final = 8
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_MOST_CAPABILITIES: Final = 64

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4

_Result = TypeVar("_Result")


class Capabilities(IntFlag):
    """A set of capabilities; those that the tracer has no use for may be in it, and have no name here."""

    NONE = 0
    CHOWN = 1 << 0
    DAC_OVERRIDE = 1 << 1
    DAC_READ_SEARCH = 1 << 2
    FOWNER = 1 << 3
    SETGID = 1 << 6
    SETUID = 1 << 7
    SETPCAP = 1 << 8
    NET_BIND_SERVICE = 1 << 10
    SYS_PTRACE = 1 << 19
    SYS_ADMIN = 1 << 21
    SYS_NICE = 1 << 23
    SYS_RESOURCE = 1 << 24
    PERFMON = 1 << 38
    BPF = 1 << 39

    @property
    def names(self) -> list[str]:
        """As in capabilities(7)."""
        return [f"CAP_{one.name}" for one in self]


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def permitted() -> Capabilities:
    """What this thread may use, or make effective. Raises OSError."""
    data = (_Data * 2)()
    if _libc.capget(ctypes.byref(_Header(_VERSION_3, 0)), data):
        raise _error()
    return Capabilities(data[0].permitted | data[1].permitted << 32)


def give_up_all_but(kept: Capabilities) -> None:
    """This thread has at most these from now on, and what it starts gains none by exec. There is no way back.

    Raises OSError.
    """
    # It takes a capability itself (CAP_SETPCAP), without which no_new_privs has to do.
    for number in range(_MOST_CAPABILITIES):
        if not kept >> number & 1:
            with suppress(OSError):
                _prctl(_PR_CAPBSET_DROP, number)
    with suppress(OSError):
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    kept &= permitted()
    _set(kept, Capabilities.NONE)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def hand_on(handed: Capabilities) -> None:
    """What this thread starts by exec has these too, as far as it has them, also where it is not root's.

    Raises OSError.
    """
    held = permitted()
    handed &= held
    _set(held, handed)
    for number in range(_MOST_CAPABILITIES):
        if handed >> number & 1:
            # Not in the bounding set, or not for this process: then what is started has to do without it.
            with suppress(OSError):
                _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def become(uid: int, gid: int, groups: list[int], kept: Capabilities) -> None:
    """Turns this process into that user's, who has `kept` of its capabilities in this thread and what it starts.

    Raises OSError for who may not.
    """
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    _prctl(_PR_SET_KEEPCAPS, 0)
    kept &= permitted()
    _set(kept, Capabilities.NONE)
    hand_on(kept)


def in_thread(kept: Capabilities, function: Callable[[], _Result]) -> _Result:
    """Calls it in a thread with at most these, as all have that it makes; returns, or raises, what it does."""
    results: list[_Result] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            give_up_all_but(kept)
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, name="fewer-rights")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def import_without_rights(*modules: str) -> None:
    """For libraries that start threads when they are imported: those have no capability."""
    in_thread(Capabilities.NONE, lambda: [importlib.import_module(module) for module in modules])


def _set(held: Capabilities, inheritable: Capabilities) -> None:
    data = (_Data * 2)()
    for index in range(2):
        low, handed = (int(bits) >> 32 * index & 0xFFFFFFFF for bits in (held, inheritable))
        data[index] = _Data(low, low, handed)
    if _libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), data):
        raise _error()


def _prctl(operation: int, *arguments: int) -> None:
    if _libc.prctl(operation, *(*arguments, 0, 0, 0, 0)[:4]):
        raise _error()


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
