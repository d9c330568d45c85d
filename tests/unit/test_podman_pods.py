# SPDX-License-Identifier: Apache-2.0
"""Names of podman's pods from its database.

In data/runtime_state podman_db.sql was written by podman 5.4.2, and keeps what is read of it, podman_bolt_state.db by
4.3.1; others are made here.
"""

import json
import os
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer.containers.identity import ContainerKey, Identity, recognize
from tracer.containers.known_names import KnownNames
from tracer.containers.runtime_state import ContainerNames, RuntimeState
from tracer.containers.runtime_state.files import Files
from tracer.containers.runtime_state.podman_pods import Pod, PodmanPods

DATA = Path(__file__).parent / "data" / "runtime_state"
# The one that is in podman's list there.
ID = "08918d25048703d2ea28f7e075e08461cb21408caf468f7cc13ebad987e5fed7"
INFRA = "b" * 64
POD = "fedcba9876543210" * 4
BOLT_WEB = "1a2e83d5f9d115b5394b4ae5316d5f76720e81d10cdbc2857d4e69c529fa8e3b"
TABLES = [
    "CREATE TABLE ContainerConfig (ID TEXT PRIMARY KEY, Name TEXT, PodID TEXT, JSON TEXT)",
    "CREATE TABLE PodConfig (ID TEXT PRIMARY KEY, Name TEXT, JSON TEXT)",
    "CREATE TABLE PodState (ID TEXT PRIMARY KEY, InfraContainerID TEXT, JSON TEXT)",
]
ROWS = [
    f"INSERT INTO ContainerConfig VALUES ('{ID}', 'plain', '{POD}', '{{}}'), ('{INFRA}', 'infra', '{POD}', '{{}}')",
    f"INSERT INTO ContainerConfig VALUES ('{'c' * 64}', 'alone', NULL, '{{}}')",
    f"INSERT INTO PodConfig VALUES ('{POD}', 'shop', '{{}}')",
    f"INSERT INTO PodState VALUES ('{POD}', NULL, '{json.dumps({'InfraContainerID': INFRA})}')",
]


def database(path: Path, statements: Iterable[str] = (*TABLES, *ROWS)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path


def podman(storage: Path) -> None:
    store = storage / "overlay-containers"
    for container in (ID, INFRA):
        (store / container / "userdata").mkdir(parents=True)
        shutil.copy(DATA / "podman_config.json", store / container / "userdata" / "config.json")
    shutil.copy(DATA / "podman_containers.json", store / "containers.json")


@pytest.mark.parametrize("place", ["db.sql", "libpod/db.sql"])
def test_containers_of_a_pod(tmp_path: Path, place: str) -> None:
    storage = tmp_path / "var/lib/containers/storage"
    podman(storage)
    state = RuntimeState(tmp_path)
    alone = ContainerNames(runtime="podman", container_name="plain", image="localhost/busy:1")
    assert state.names(ContainerKey(ID), "podman") == alone
    database(storage / place)
    assert state.names(ContainerKey(ID), "podman") == ContainerNames(
        runtime="podman", container_name="plain", image="localhost/busy:1", pod_name="shop", pod_uid=POD
    )
    assert state.names(ContainerKey(INFRA), "podman") == ContainerNames(
        runtime="podman", is_sandbox=True, pod_name="shop", pod_uid=POD
    )
    # It is read anew once it was written.
    database(storage / place, [*TABLES, *ROWS, "UPDATE PodConfig SET Name = 'other'"])
    names = state.names(ContainerKey(ID), "podman")
    assert names is not None
    assert names.pod_name == "other"


@pytest.mark.root
def test_a_users_pod_is_named_in_that_users_containers_only(tmp_path: Path) -> None:
    storage = tmp_path / "home/someone/.local/share/containers/storage"
    podman(storage)
    database(storage / "db.sql")
    for path in [*(tmp_path / "home/someone").rglob("*"), tmp_path / "home/someone"]:
        os.chown(path, 1000, 1000)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("someone:x:1000:1000::/home/someone:/bin/sh\n")
    pod = f"/user-libpod_pod_{POD}.slice/libpod-{ID}.scope"
    by_path, key = recognize(f"/user.slice/user-1000.slice/user@1000.service/user.slice{pod}")
    of_root, key_of_root = recognize(f"/machine.slice{pod}")
    assert key is not None
    names = RuntimeState(tmp_path).names(key, "podman")
    assert names is not None
    known = KnownNames()
    assert known.give(key, names, "runtime") == [key]
    assert known.complete(by_path, key) == Identity(
        kind="container", runtime="podman", container_id=ID, container_name="plain", pod_name="shop", pod_uid=POD
    )
    assert known.complete(of_root, key_of_root) == of_root
    # What only says that it is podman's cannot be in a pod of the kubelet's.
    claimed = ContainerNames(runtime="podman", pod_name="api", pod_uid=POD, namespace="kube-system", is_sandbox=True)
    other = ContainerKey("a" * 64, 1000)
    assert known.give(other, claimed, "runtime") == [other]
    assert known.names(other) == ContainerNames(runtime="podman", pod_name="api")


def pods(path: Path) -> Pod | None:
    return PodmanPods(Files()).pod_of(str(path.parent), ID)


@pytest.mark.parametrize(
    "statements",
    [
        TABLES,
        TABLES[1:],
        [*TABLES, *ROWS, "DROP TABLE PodState"],
        [*TABLES, *ROWS, "ALTER TABLE PodState DROP COLUMN JSON"],
        [*TABLES, *ROWS, "UPDATE PodConfig SET Name = ''"],
        [*TABLES, *ROWS, "UPDATE PodConfig SET Name = x'ff00'"],
        [*TABLES, *ROWS, "UPDATE PodConfig SET Name = NULL"],
        [*TABLES, *ROWS, f"UPDATE PodConfig SET Name = CAST(zeroblob({2**21}) AS TEXT)"],
        # A view that has no end, and functions.
        [*TABLES, *ROWS, "DROP TABLE PodConfig", "CREATE VIEW PodConfig AS WITH RECURSIVE endless(ID) AS "
         "(SELECT 1 UNION ALL SELECT ID + 1 FROM endless) SELECT ID, ID AS Name FROM endless"],
        [*TABLES, *ROWS, "ALTER TABLE PodConfig RENAME TO Pods",
         "CREATE VIEW PodConfig AS SELECT ID, upper(Name) AS Name FROM Pods"],
        [*TABLES, *ROWS, "DELETE FROM PodConfig",
         *["INSERT INTO ContainerConfig SELECT randomblob(8), Name, PodID, JSON FROM ContainerConfig"] * 14,
         "DROP TABLE PodConfig", "CREATE VIEW PodConfig AS SELECT a.PodID AS ID, a.Name AS Name "
         "FROM ContainerConfig AS a JOIN ContainerConfig AS b ON a.ID < b.ID WHERE a.Name = 'nobody'"],
    ],
)  # fmt: skip
def test_a_database_that_says_nothing(tmp_path: Path, statements: Sequence[str]) -> None:
    assert pods(database(tmp_path / "db.sql", statements)) is None


def test_pods_of_podman_itself(tmp_path: Path) -> None:
    shutil.copy(DATA / "podman_db.sql", tmp_path / "db.sql")
    read = PodmanPods(Files())
    a_pod = "f7035f072821b0c242c3086936f79b79850bc3d21593c838b29b5625f1cda849"
    with_infra = "1f1f205e705a6eabc51473e45184951de5349bc07aeb2c8dda1e78db95fdf835"
    for container, pod in [
        ("2b6f6924613a02e5abccc504bb601f99dfe5b8a0895e6f2f1a7ecb791fb67943", Pod(a_pod, "a-pod", False)),
        ("9cc72a76d3e020a3503ac3dda4df4b5e0ecef7730f6bbb66fb54cdf08df4dfa0", Pod(with_infra, "with-infra", False)),
        ("9512a67527f6d25702c73da08f1c518c0ac5dbbb65112a128be41bafe84046ae", Pod(with_infra, "with-infra", True)),
        ("ff2f15c5e227a3e3d9169f1b9010f692d055ee6e6274c5308233157f0697d8ac", None),
    ]:
        assert read.pod_of(str(tmp_path), container) == pod


def bolt() -> bytes:
    return zlib.decompress((DATA / "podman_bolt_state.db.zlib").read_bytes())


def bolt_pod(storage: Path, content: bytes, container: str = BOLT_WEB) -> Pod | None:
    (storage / "libpod").mkdir(exist_ok=True)
    (storage / "libpod/bolt_state.db").write_bytes(content)
    return PodmanPods(Files()).pod_of(str(storage), container)


def test_pods_of_an_older_podman(tmp_path: Path) -> None:
    a_pod = "58d96c1551cda0531dcc926ef2cd273b1e202d2a09c1c785bc66b099f6776ed6"
    with_infra = "11c35df13b810b8088587cc04d2946ec792b947c57fa127e2f6fb046efb43e49"
    for container, pod in [
        (BOLT_WEB, Pod(a_pod, "a-pod", False)),
        ("573887c151c7781a84c37622ce3bdc091e23f1f5253f08aa81a3fb7af94927fb", Pod(with_infra, "with-infra", False)),
        ("dbe3954cc59466ccc0a8782c8e9cbdfa55396eeb0f2de759879d5f51a3cbd0a7", Pod(with_infra, "with-infra", True)),
        ("ae2b709a271b8b66c3591c5dd35e2b19c3ac1485559fbde1a97c49b678ddb63e", None),
    ]:
        assert bolt_pod(tmp_path, bolt(), container) == pod


def test_an_older_podmans_database_of_which_a_half_was_written(tmp_path: Path) -> None:
    # One of the two beginnings is enough, and without both it is none.
    checksums = [16 + 56, 4096 + 16 + 56]
    both = bytearray(bolt())
    for checksum in checksums:
        one = bytearray(bolt())
        one[checksum] ^= 1
        both[checksum] ^= 1
        pod = bolt_pod(tmp_path, bytes(one))
        assert pod is not None
        assert pod.name == "a-pod"
    assert bolt_pod(tmp_path, bytes(both)) is None


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\0" * 16_384, bolt()[:4096], bolt()[:8192]])
def test_what_is_no_older_database(tmp_path: Path, content: bytes) -> None:
    assert bolt_pod(tmp_path, content) is None


def test_an_older_database_with_pages_that_are_nowhere(tmp_path: Path) -> None:
    content = bytearray(bolt())
    for page in range(2, len(content) // 4096):
        struct.pack_into("<QHHI", content, page * 4096, page, 1, 1, 0)
        struct.pack_into("<IIQ", content, page * 4096 + 16, 0, 0, 2**64 - 1)
    assert bolt_pod(tmp_path, bytes(content)) is None


def test_an_older_database_without_end(tmp_path: Path) -> None:
    # Each page is a branch, of which all elements lead to the page itself.
    content = bytearray(bolt())
    for page in range(2, len(content) // 4096):
        count = 250
        struct.pack_into("<QHHI", content, page * 4096, page, 1, count, 0)
        for element in range(count):
            struct.pack_into("<IIQ", content, page * 4096 + 16 + 16 * element, 0, 0, page)
    assert bolt_pod(tmp_path, bytes(content)) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damaged_older_databases(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(bolt())
    # What is between the beginnings and what was never used.
    for place in data.draw(st.lists(st.integers(8192, len(content) - 1), max_size=40)):
        content[place] = data.draw(st.integers(0, 255))
    pod = bolt_pod(tmp_path, bytes(content[: data.draw(st.integers(0, len(content)))]))
    assert pod is None or (pod.name.isprintable() and len(pod.name) <= 512)


@pytest.mark.parametrize("state", ["NULL", "''", "'{'", "'[]'", "7", "x'ff'", "'" + "[" * 10_000 + "'"])
def test_a_pods_state_that_says_nothing(tmp_path: Path, state: str) -> None:
    assert pods(database(tmp_path / "db.sql", [*TABLES, *ROWS, f"UPDATE PodState SET JSON = {state}"])) == Pod(
        POD, "shop", False
    )


@pytest.mark.parametrize("name", ["\x1b[31m\n", "x" * 10_000, "%s%n", "\u202e", "ü"])
def test_hostile_names_come_out_short_and_printable(tmp_path: Path, name: str) -> None:
    path = database(tmp_path / "db.sql", [*TABLES, *ROWS, f"UPDATE PodConfig SET Name = '{name}'"])
    pod = pods(path)
    assert pod is not None
    assert pod.name.isprintable()
    assert 0 < len(pod.name) <= 512


@pytest.mark.parametrize("content", [b"", b"x", b"SQLite format 3\0", b"\0" * 4096])
def test_what_is_no_database(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "db.sql").write_bytes(content)
    assert pods(tmp_path / "db.sql") is None


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = database(tmp_path / "db.sql", [*TABLES, *ROWS, "UPDATE PodConfig SET Name = CAST(x'61ff62' AS TEXT)"])
    assert pods(path) == Pod(POD, "a\ufffdb", False)


def test_a_database_is_not_changed(tmp_path: Path) -> None:
    path = database(tmp_path / "db.sql")
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    assert pods(path) == Pod(POD, "shop", False)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert list(tmp_path.iterdir()) == [path]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damaged_databases(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(database(tmp_path / "whole.sql").read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=20)):
        content[place] = data.draw(st.integers(0, 255))
    (tmp_path / "db.sql").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    pod = pods(tmp_path / "db.sql")
    assert pod is None or (pod.name.isprintable() and len(pod.name) <= 512)
