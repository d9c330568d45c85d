# SPDX-License-Identifier: Apache-2.0
"""The user that a run turns into: `--user NAME`, `UID` or `UID:GID`."""

import grp
import os
import pwd
from typing import Final, NamedTuple

from tracer.errors import UsageError
from tracer.kernel.capabilities import Capabilities, become, permitted

_TO_TURN: Final = Capabilities.SETUID | Capabilities.SETGID
_LARGEST_ID: Final = 2**32 - 2


class User(NamedTuple):
    """Numbers of a user, its group and all its groups."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def parse_user(text: str) -> User:
    """Raises UsageError for one that this machine does not know; a number may be unknown if its group is given."""
    name, colon, group = text.partition(":")
    try:
        entry = pwd.getpwuid(_number(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, ValueError):
        entry = None
    if entry is None and not (name.isdecimal() and group):
        what = "has no user of that number: give its group too, UID:GID" if name.isdecimal() else "has no such user"
        raise UsageError(f"--user {text!r}: this machine {what}")
    uid = _number(name) if entry is None else entry.pw_uid
    if not colon and entry is not None:
        return User(uid, entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)))
    try:
        gid = _number(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise UsageError(f"--user {text!r}: this machine has no such group") from None
    return User(uid, gid, (gid,))


def may_turn() -> bool:
    """Whether this process may turn into another user's."""
    return permitted() & _TO_TURN == _TO_TURN


def turn_into(user: User, kept: Capabilities) -> None:
    """This process is that user's from now on, and has `kept` of its capabilities; it has one thread yet.

    Raises UsageError for who may not.
    """
    try:
        become(user.uid, user.gid, list(user.groups), kept)
    except OSError as error:
        raise UsageError(f"--user: the kernel refuses it: {error.strerror}") from error


def _number(text: str) -> int:
    """Raises UsageError for one that is too large."""
    if len(text) > len(str(_LARGEST_ID)) or int(text) > _LARGEST_ID:
        raise UsageError(f"--user: {text[:40]} is no number of a user or group")
    return int(text)
