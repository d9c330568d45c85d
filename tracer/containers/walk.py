# SPDX-License-Identifier: Apache-2.0
"""All cgroups that exist now: a walk of the cgroup2 tree."""

import os
from pathlib import Path


def walk(root: Path) -> dict[int, str]:
    """Path of every cgroup below and including `root`, keyed by cgroup id.

    The id is the inode of the cgroup's directory, the value of `bpf_get_current_cgroup_id()`. Paths start
    with `/` and are relative to `root`, which is `/` itself; bytes that are not UTF-8 are surrogates, as in
    `os`.

    A cgroup that vanishes meanwhile is left out or not, as it happens. One that cannot be read, or whose path
    is longer than PATH_MAX (the kernel itself cannot name it then), keeps its children out.
    """
    top = str(root).rstrip("/")
    try:
        found = {root.stat().st_ino: "/"}
    except OSError:
        return {}
    unread = [""]
    while unread:
        parent = unread.pop()
        directory = top + parent or "/"
        try:
            # A directory's link count is 2 + its subdirectories (kernfs_refresh_inode()); a cgroup without
            # any holds dozens of control files that need not be listed. Other file systems may say 1.
            if os.stat(directory).st_nlink == 2:  # noqa: PTH116 - Path objects double the time of a walk
                continue
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        path = f"{parent}/{entry.name}"
                        found[entry.inode()] = path
                        unread.append(path)
        except OSError:
            continue
    return found
