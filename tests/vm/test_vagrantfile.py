# SPDX-License-Identifier: Apache-2.0
"""The Vagrantfile is valid, says the Vagrant of Debian bookworm, the last release that has it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
sys.path.append(str(PROJECT / "scripts"))

from virtual_machine.debian import debian_tree  # noqa: E402
from virtual_machine.host import content_key, made_once, native_architecture  # noqa: E402

pytestmark = pytest.mark.root

IN_TREE = """
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/mnt"
exec chroot "$1" vagrant validate --ignore-provider
"""
VALID = "==> default: Ignoring provider config for validation...\nVagrantfile validated successfully.\n"


def validate(directory: Path) -> subprocess.CompletedProcess[str]:
    """Runs Vagrant on the directory's Vagrantfile; what it keeps is in the directory too."""

    def make(tree: Path) -> None:
        debian_tree(tree / "tree", "bookworm", native_architecture(), ["vagrant"])

    tree = made_once("vagrant", content_key(PROJECT / "scripts" / "virtual_machine" / "debian.py"), make) / "tree"
    return subprocess.run(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", IN_TREE, "sh", tree, directory],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/mnt", "VAGRANT_CWD": "/mnt", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip


def test_it_is_valid(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "Vagrantfile", tmp_path)
    validated = validate(tmp_path)
    assert (validated.returncode, validated.stdout) == (0, VALID)


def test_a_mistake_in_it_would_be_found(tmp_path: Path) -> None:
    content = (PROJECT / "Vagrantfile").read_text()
    (tmp_path / "Vagrantfile").write_text(content.replace("config.vm.hostname", "config.vm.hostnames"))
    validated = validate(tmp_path)
    assert validated.returncode != 0
    assert "hostnames" in validated.stdout
