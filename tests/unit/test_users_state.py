# SPDX-License-Identifier: Apache-2.0
"""Names of containers that users run without root: from their own homes, of which nothing is to be believed."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer.containers.identity import ContainerKey
from tracer.containers.runtime_state import ContainerNames, RuntimeState
from tracer.containers.runtime_state.files import MAX_BYTES, UserFiles

pytestmark = pytest.mark.root

DATA = Path(__file__).parent / "data" / "runtime_state"
ID = "08918d25048703d2ea28f7e075e08461cb21408caf468f7cc13ebad987e5fed7"
OTHER_ID = "fedcba9876543210" * 4
USER, OTHER_USER = 1000, 1001
KEY = ContainerKey(ID, USER)
HOME = "home/someone"
STORE = f"{HOME}/.local/share/containers/storage/overlay-containers"
CONFIG = f"{STORE}/{ID}/userdata/config.json"
LIST = f"{STORE}/containers.json"
DOCKER = f"{HOME}/.local/share/docker/containers/{ID}/config.v2.json"
PASSWD = """root:x:0:0:root:/root:/bin/bash
malformed
someone:x:1000:1000:,,,:/home/someone:/bin/bash
other:x:1001:1001::/home/other:/bin/sh
nobody:x:65534:65534:nobody:/:/usr/sbin/nologin
"""
PLAIN = ContainerNames(runtime="podman", container_name="plain", image="localhost/busy:1")


def write(root: Path, place: str, content: object, owner: int = USER) -> Path:
    """What is in a home belongs to its user, with all directories."""
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    os.chown(path, owner, owner)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "etc/passwd", PASSWD.encode(), owner=0)
    (tmp_path / HOME).mkdir(parents=True)
    return tmp_path


def podman_store(root: Path, store: str = STORE, owner: int = USER) -> None:
    write(root, f"{store}/{ID}/userdata/config.json", (DATA / "podman_config.json").read_bytes(), owner)
    write(root, f"{store}/containers.json", (DATA / "podman_containers.json").read_bytes(), owner)


def start_conmon(root: Path, bundle: str, *, pid: int = 4711, owner: int = USER, process_owner: int = USER) -> None:
    """What conmon leaves in the run-time directory, and its command line, as podman 4.3.1 gives it."""
    place = f"run/user/{USER}/containers/overlay-containers/{ID}/userdata/conmon.pid"
    write(root, place, str(pid).encode(), owner)
    command = [
        "/usr/bin/conmon",
        "--api-version",
        "1",
        "-c",
        ID,
        "-u",
        ID,
        "-r",
        "/usr/bin/crun",
        "-b",
        bundle,
        "-n",
        "x",
    ]
    write(root, f"proc/{pid}/cmdline", "\0".join([*command, ""]).encode(), process_owner)


@pytest.mark.parametrize("runtime", ["podman", "docker", None])
def test_podman_without_root(root: Path, runtime: str | None) -> None:
    podman_store(root)
    state = RuntimeState(root)
    assert state.names(KEY, runtime) == PLAIN
    # Nobody else has that container, nor has the node.
    for key in (ContainerKey(ID), ContainerKey(ID, OTHER_USER), ContainerKey(ID, 4), ContainerKey(OTHER_ID, USER)):
        assert state.names(key, runtime) is None


@pytest.mark.parametrize("runtime", ["docker", None])
def test_docker_without_root(root: Path, runtime: str | None) -> None:
    write(root, DOCKER, (DATA / "docker_config.v2.json").read_bytes())
    assert RuntimeState(root).names(KEY, runtime) == ContainerNames(
        runtime="docker", container_name="plain", image="busy:1"
    )


def test_the_nodes_state_is_none_of_a_users(root: Path) -> None:
    write(
        root, f"var/lib/docker/containers/{ID}/config.v2.json", (DATA / "docker_config.v2.json").read_bytes(), owner=0
    )
    assert RuntimeState(root).names(KEY, "docker") is None
    assert RuntimeState(root).names(ContainerKey(ID), "docker") is not None


@pytest.mark.parametrize("storage", ["/srv/data/containers/storage", "/home/someone/.data/containers/storage", "/x"])
def test_storage_elsewhere_is_where_conmon_says(root: Path, storage: str) -> None:
    podman_store(root, f"{storage[1:]}/overlay-containers")
    state = RuntimeState(root)
    assert state.names(KEY, "podman") is None
    start_conmon(root, f"{storage}/overlay-containers/{ID}/userdata")
    assert state.names(KEY, "podman") == PLAIN
    assert f"{root}{storage}/overlay-containers" in [
        place for reader in state.readers(USER) for place in reader.places()
    ]


@pytest.mark.parametrize(
    "bundle",
    [
        "", "userdata", "/", f"/{ID}/userdata", f"/srv/overlay-containers/{OTHER_ID}/userdata",
        f"/srv/other-containers/{ID}/userdata", f"/srv/overlay-containers/{ID}/userdata/..",
        f"/srv/../srv/overlay-containers/{ID}/userdata",
        f"/link/overlay-containers/{ID}/userdata",
    ],
)  # fmt: skip
def test_a_bundle_that_is_none_leads_nowhere(root: Path, bundle: str) -> None:
    podman_store(root, "srv/overlay-containers")
    (root / "link").symlink_to(root / "srv")
    start_conmon(root, bundle)
    assert RuntimeState(root).names(KEY, "podman") is None


def test_a_process_of_somebody_else_is_no_conmon(root: Path) -> None:
    podman_store(root, "srv/overlay-containers")
    start_conmon(root, f"/srv/overlay-containers/{ID}/userdata", process_owner=OTHER_USER)
    assert RuntimeState(root).names(KEY, "podman") is None


@pytest.mark.parametrize("pid", [b"", b"-1", b"1/..", b"\xb2", b"4711 ", b"9" * 100, b"4711\n"])
def test_a_spoilt_process_id(root: Path, pid: bytes) -> None:
    podman_store(root, "srv/overlay-containers")
    start_conmon(root, f"/srv/overlay-containers/{ID}/userdata")
    write(root, f"run/user/{USER}/containers/overlay-containers/{ID}/userdata/conmon.pid", pid)
    assert RuntimeState(root).names(KEY, "podman") is None


def test_somebody_elses_storage_is_not_read(root: Path) -> None:
    podman_store(root, "srv/overlay-containers", owner=OTHER_USER)
    start_conmon(root, f"/srv/overlay-containers/{ID}/userdata")
    assert RuntimeState(root).names(KEY, "podman") is None
    podman_store(root, "srv/overlay-containers", owner=0)
    assert RuntimeState(root).names(KEY, "podman") is None


def test_a_users_storages_are_bounded(root: Path) -> None:
    state = RuntimeState(root)
    for number in range(30):
        podman_store(root, f"srv/{number}/overlay-containers")
        start_conmon(root, f"/srv/{number}/overlay-containers/{ID}/userdata")
        assert state.names(KEY, "podman") == PLAIN
    assert len(list(state.readers(USER))) < 12


# Links and what is no file


def _link_out(path: Path, good: Path) -> None:
    path.unlink()
    path.symlink_to(good)


def _hard_link(path: Path, good: Path) -> None:
    path.unlink()
    path.hardlink_to(good)


def _fifo(path: Path, _good: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    os.chown(path, USER, USER)


def _directory(path: Path, _good: Path) -> None:
    path.unlink()
    path.mkdir()
    os.chown(path, USER, USER)


def _device(path: Path, _good: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _too_large(path: Path, _good: Path) -> None:
    path.write_bytes(path.read_bytes() + b" " * MAX_BYTES)
    os.chown(path, USER, USER)


@pytest.mark.parametrize("change", [_link_out, _hard_link, _fifo, _directory, _device, _too_large])
@pytest.mark.parametrize("place", [CONFIG, LIST, DOCKER])
def test_no_ordinary_file_of_the_users_own(root: Path, place: str, change: Callable[[Path, Path], None]) -> None:
    if place == DOCKER:
        write(root, DOCKER, (DATA / "docker_config.v2.json").read_bytes())
    else:
        podman_store(root)
    assert RuntimeState(root).names(KEY, None) is not None
    # The same by its content, but root's.
    good = write(root, "secret", (root / place).read_bytes(), owner=0)
    change(root / place, good)
    found: list[ContainerNames | None] = []
    thread = threading.Thread(target=lambda: found.append(RuntimeState(root).names(KEY, None)), daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert found == ([ContainerNames(runtime="podman")] if place == LIST else [None])


@pytest.mark.parametrize("above", [path for path in map(str, Path(LIST).parents) if len(path) > len(HOME)])
def test_a_directory_that_is_a_link_is_not_followed(root: Path, above: str) -> None:
    podman_store(root)
    (root / above).rename(root / "elsewhere")
    (root / above).symlink_to(root / "elsewhere")
    assert RuntimeState(root).names(KEY, "podman") is None


def test_a_home_that_the_administrator_moved_by_a_link(root: Path) -> None:
    podman_store(root)
    (root / "home").rename(root / "data")
    (root / "home").symlink_to(root / "data")
    assert RuntimeState(root).names(KEY, "podman") == PLAIN


@pytest.mark.parametrize("passwd", [None, b"", b"\xff:x:1000::::/", b"s:x:1000:1000::/:/bin/sh\n", b"a:x:1000\n" * 9])
def test_a_user_without_a_home(root: Path, passwd: bytes | None) -> None:
    podman_store(root)
    (root / "etc/passwd").unlink()
    if passwd is not None:
        write(root, "etc/passwd", passwd, owner=0)
    assert RuntimeState(root).names(KEY, "podman") is None


def test_a_directory_of_very_many_names_is_read_in_part(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.containers.runtime_state.files._MOST_NAMES", 10)
    for number in range(100):
        write(root, f"{HOME}/many/{number}", b"")
    os.chown(root / HOME / "many", USER, USER)
    files = UserFiles(USER, str(root / HOME))
    assert len(files.names_in(str(root / HOME / "many"))) == 10


@pytest.mark.parametrize("path", ["", "/", "/etc/passwd", "{home}", "{home}/", "{home}/../../etc/passwd", "{home}x/y",
                                  "{home}//a", "{home}/./a", "{home}/\0"])  # fmt: skip
def test_nothing_outside_of_the_home(root: Path, path: str) -> None:
    write(root, f"{HOME}/a", b"x")
    write(root, f"{HOME}x/y", b"x")
    files = UserFiles(USER, str(root / HOME))
    assert files.read(str(root / HOME / "a")) == b"x"
    asked = path.format(home=root / HOME)
    assert (files.read(asked), files.version(asked), files.names_in(asked)) == (None, None, [])


def test_no_descriptor_is_left_open(root: Path) -> None:
    podman_store(root)
    start_conmon(root, "/nowhere")
    before = len(list(Path("/proc/self/fd").iterdir()))
    state = RuntimeState(root)
    for key in (KEY, ContainerKey(OTHER_ID, USER), ContainerKey(ID, OTHER_USER)):
        state.names(key, "podman")
        for reader in state.readers(key.user_id):
            for place in reader.places():
                reader.files.version(place)
                reader.files.names_in(place)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=st.binary(), containers=st.binary(), pid=st.binary(max_size=8), command=st.binary())
def test_any_content_is_harmless(root: Path, config: bytes, containers: bytes, pid: bytes, command: bytes) -> None:
    write(root, CONFIG, config)
    write(root, LIST, containers)
    write(root, DOCKER, containers)
    write(root, f"run/user/{USER}/containers/overlay-containers/{ID}/userdata/conmon.pid", pid)
    write(root, "proc/4711/cmdline", command)
    found = RuntimeState(root).names(KEY, "podman")
    assert found is None or found == ContainerNames(runtime=found.runtime)
