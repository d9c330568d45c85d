# SPDX-License-Identifier: Apache-2.0
"""Trees of Debian packages."""

from collections.abc import Sequence
from pathlib import Path

from virtual_machine.host import run

_LINKS = ("bin", "lib", "lib64", "sbin")


def debian_tree(directory: Path, suite: str, architecture: str, packages: Sequence[str], extract: bool = False) -> None:
    """Fills a new directory with packages and what they depend on.

    `extract`: nothing in the tree is run, so that it may be another processor's; else the packages are set up.
    `<release>-backports` takes the first package from there and all else from the release.
    """
    release = suite.removesuffix("-backports")
    options = [
        f"--variant={'extract' if extract else 'minbase'}",
        f"--architectures={architecture}",
        # Not what a release's security archive lists and may no longer have.
        f'--aptopt=APT::Default-Release "/^{release}$/"',
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
    ]
    if suite != release:
        packages = [f"{packages[0]}/{suite}", *packages[1:]]
        add = f"s/ {release} main/ {suite} main/p"
        options.append(
            f'--setup-hook=sed -n "{add}" "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/backports.list"'
        )
    run("mmdebstrap", "--quiet", *options, f"--include={','.join(packages)}", release, directory)
    if extract:
        _merge_usr(directory)


def _merge_usr(directory: Path) -> None:
    """Makes the links that a set-up would make; older releases still have directories of those names."""
    (directory / "usr").mkdir(exist_ok=True)
    for name in _LINKS:
        old, new = directory / name, directory / "usr" / name
        if old.is_dir() and not old.is_symlink():
            run("cp", "-a", f"{old}/.", _made(new))
            run("rm", "-r", old)
        if new.is_dir() and not old.exists():
            old.symlink_to(f"usr/{name}")


def _made(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    return directory
