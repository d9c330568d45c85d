# SPDX-License-Identifier: Apache-2.0
"""Walk and inventory on the kernel's own cgroup2 tree."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.containers.inventory import Inventory
from tracer.containers.walk import walk

ID = "0123456789abcdef" * 4


@pytest.fixture
def make_cgroup(own_cgroup: Path) -> Callable[[bytes], Path]:
    """Makes a cgroup below one of the test's own."""

    def make(path: bytes) -> Path:
        cgroup = own_cgroup / os.fsdecode(path)
        cgroup.mkdir()
        return cgroup

    return make


@pytest.mark.root
def test_ids_and_paths_of_the_kernels_tree(make_cgroup: Callable[[bytes], Path]) -> None:
    mount = find_cgroup2_mount()
    names = [
        b"a.slice",
        b"a.slice/docker-" + ID.encode() + b".scope",
        b"a.slice/docker-" + ID.encode() + b".scope/container",
        b"\xff\x1b[31m",
        b"\xff\x1b[31m/" + b"z" * 255,
        b"dev-disk-by\\x2duuid.swap",
    ]
    made = {make_cgroup(name) for name in names}
    found = walk(mount)
    assert found[mount.stat().st_ino] == "/"
    assert made <= {mount / path.lstrip("/") for path in found.values()}
    for cgroup_id, path in found.items():
        cgroup = mount / path.lstrip("/")
        if cgroup in made:
            assert cgroup.stat().st_ino == cgroup_id


@pytest.mark.root
def test_inventory_names_a_cgroup_by_the_id_the_kernel_uses(make_cgroup: Callable[[bytes], Path]) -> None:
    inventory = Inventory(find_cgroup2_mount())
    container = make_cgroup(f"docker-{ID}.scope".encode())
    child = make_cgroup(f"docker-{ID}.scope/\x1b[31m".encode())
    ids = [container.stat().st_ino, child.stat().st_ino]
    inventory.resolve(ids)
    inventory.refresh()
    child.rmdir()
    inventory.refresh()
    rows = inventory.labels().filter(pl.col("cgroup_id").is_in(ids)).sort("cgroup_path").to_dicts()
    assert [row["cgroup_id"] for row in rows] == ids
    assert [row["container_id"] for row in rows] == [ID, ID]
    assert rows[1]["cgroup_path"] == rows[0]["cgroup_path"] + "/\\x1b[31m"


@pytest.mark.root
def test_a_task_is_in_the_cgroup_that_the_walk_names(make_cgroup: Callable[[bytes], Path]) -> None:
    cgroup = make_cgroup(b"worker.service")
    with subprocess.Popen(["sleep", "60"]) as task:
        try:
            (cgroup / "cgroup.procs").write_text(str(task.pid))
            lines = Path(f"/proc/{task.pid}/cgroup").read_text().splitlines()
        finally:
            task.kill()
    (path,) = (line.removeprefix("0::") for line in lines if line.startswith("0::"))
    assert walk(find_cgroup2_mount())[cgroup.stat().st_ino] == path
