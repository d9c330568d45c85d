# SPDX-License-Identifier: Apache-2.0
"""Names from the runtimes' own state: a file tree as each of them leaves it, and files that nobody should trust.

The files in data/runtime_state were written by Docker 20.10.24 and podman 4.3.1; containerd's and CRI-O's are made here
after the formats that the modules name.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer.containers.identity import ContainerKey
from tracer.containers.runtime_state import ContainerNames, RuntimeState, state_directory
from tracer.containers.runtime_state.files import MAX_BYTES
from tracer.errors import UsageError

DATA = Path(__file__).parent / "data" / "runtime_state"
ID = "0123456789abcdef" * 4
KEY = ContainerKey(ID)
UID = "8f0d4b7e-6f3c-4c86-9d53-0e5d3a6f1c11"
SECRET = "hunter2"

TASKS = "run/containerd/io.containerd.runtime.v2.task"
BUNDLE = f"{TASKS}/k8s.io/{ID}/config.json"
CRIO = f"run/containers/storage/overlay-containers/{ID}/userdata/config.json"
PODMAN_STORE = "var/lib/containers/storage/overlay-containers"
PODMAN = f"{PODMAN_STORE}/{ID}/userdata/config.json"
PODMAN_LIST = f"{PODMAN_STORE}/containers.json"
DOCKER = f"var/lib/docker/containers/{ID}/config.v2.json"
PLACES = [BUNDLE, CRIO, PODMAN, DOCKER]


def write(root: Path, place: str, content: object) -> Path:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def oci_configuration(annotations: dict[str, str] | None) -> dict[str, Any]:
    """An OCI configuration with something secret in each place where people put such things."""
    return {
        "ociVersion": "1.1.0",
        "process": {
            "args": ["serve", f"--password={SECRET}"],
            "env": ["PATH=/bin", f"TOKEN={SECRET}"],
            "cwd": "/",
        },
        "root": {"path": "rootfs"},
        "mounts": [{"destination": f"/{SECRET}", "type": "bind", "source": f"/var/lib/{SECRET}"}],
        "annotations": None if annotations is None else {**annotations, "example.com/token": SECRET},
        "linux": {"cgroupsPath": f"/kubepods/burstable/pod{UID}/{ID}"},
    }


def containerd_annotations(**further: str) -> dict[str, str]:
    return {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": "web",
        "io.kubernetes.cri.image-name": "registry.example/shop/web:1.2",
        "io.kubernetes.cri.sandbox-id": "f" * 64,
        "io.kubernetes.cri.sandbox-name": "shop-7d9",
        "io.kubernetes.cri.sandbox-namespace": "prod",
        "io.kubernetes.cri.sandbox-uid": UID,
    } | {f"io.kubernetes.cri.{key.replace('_', '-')}": value for key, value in further.items()}


def containerd_sandbox_annotations() -> dict[str, str]:
    annotations = containerd_annotations(container_type="sandbox")
    del annotations["io.kubernetes.cri.container-name"], annotations["io.kubernetes.cri.image-name"]
    return annotations | {"io.kubernetes.cri.podsandbox.image-name": "registry.example/pause:3.9"}


def crio_annotations(**further: str) -> dict[str, str]:
    return {
        "io.container.manager": "cri-o",
        "io.kubernetes.container.name": "web",
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.Image": "d" * 64,
        "io.kubernetes.cri-o.ImageName": "registry.example/shop/web:1.2",
        "io.kubernetes.cri-o.Name": f"k8s_web_shop-7d9_prod_{UID}_0",
        "io.kubernetes.cri-o.Labels": json.dumps({"token": SECRET}),
        "io.kubernetes.pod.name": "shop-7d9",
        "io.kubernetes.pod.namespace": "prod",
        "io.kubernetes.pod.uid": UID,
    } | further


def in_pod(runtime: str) -> ContainerNames:
    return ContainerNames(
        runtime=runtime,
        container_name="web",
        pod_name="shop-7d9",
        pod_uid=UID,
        namespace="prod",
        image="registry.example/shop/web:1.2",
    )


def sandbox(runtime: str) -> ContainerNames:
    return ContainerNames(runtime=runtime, is_sandbox=True, pod_name="shop-7d9", pod_uid=UID, namespace="prod")


def docker_container(name: str) -> dict[str, Any]:
    container: dict[str, Any] = json.loads((DATA / "docker_config.v2.json").read_bytes())
    return container | {"Name": name}


# containerd


@pytest.mark.parametrize(
    "state",
    ["run/containerd", "run/k3s/containerd", "run/k0s/containerd", "var/snap/microk8s/common/run/containerd"],
)
@pytest.mark.parametrize("runtime", ["containerd", "docker", None])
def test_pod_container_of_containerd(tmp_path: Path, state: str, runtime: str | None) -> None:
    bundle = oci_configuration(containerd_annotations())
    write(tmp_path, f"{state}/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json", bundle)
    assert RuntimeState(tmp_path).names(KEY, runtime) == in_pod("containerd")


def test_sandbox_of_containerd(tmp_path: Path) -> None:
    write(tmp_path, BUNDLE, oci_configuration(containerd_sandbox_annotations()))
    assert RuntimeState(tmp_path).names(KEY, "containerd") == sandbox("containerd")


@pytest.mark.parametrize(
    ("annotations", "intel_rdt", "expected"),
    [
        ({}, None, (None, None)),
        ({}, {"closID": "gold"}, ("gold", None)),
        ({}, {"l3CacheSchema": "L3:0=f"}, (None, None)),
        ({"io.kubernetes.cri.rdt-class": "silver"}, {"closID": "gold"}, ("gold", None)),
        (
            {"io.kubernetes.cri.rdt-class": "silver", "io.kubernetes.cri.blockio-class": "slow"},
            None,
            ("silver", "slow"),
        ),
        (
            {"rdt.resources.beta.kubernetes.io/pod": "pods", "blockio.resources.beta.kubernetes.io/pod": "fast\n"},
            None,
            ("pods", "fast\\n"),
        ),
    ],
)
@pytest.mark.parametrize("place", [BUNDLE, CRIO])
def test_classes_of_a_container(
    tmp_path: Path,
    place: str,
    annotations: dict[str, str],
    intel_rdt: dict[str, str] | None,
    expected: tuple[str | None, str | None],
) -> None:
    runtime = "containerd" if place == BUNDLE else "cri-o"
    names = containerd_annotations() if place == BUNDLE else crio_annotations()
    configuration = oci_configuration(names | annotations)
    configuration["linux"]["intelRdt"] = intel_rdt
    write(tmp_path, place, configuration)
    found = RuntimeState(tmp_path).names(KEY, runtime)
    assert found is not None
    assert (found.rdt_class, found.blockio_class) == expected
    assert found.pod_name == "shop-7d9"


def test_further_state_directory_of_containerd(tmp_path: Path) -> None:
    bundle = oci_configuration(containerd_annotations())
    write(tmp_path, f"srv/containerd/state/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json", bundle)
    assert RuntimeState(tmp_path).names(KEY, "containerd") is None
    state = RuntimeState(tmp_path, containerd_states=[Path("/srv/containerd/state")])
    assert state.names(KEY, "containerd") == in_pod("containerd")


def test_a_state_directory_is_one_that_can_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("state")
    assert state_directory(str(tmp_path / "state")) == state_directory("state") == tmp_path / "state"
    assert state_directory("link").is_dir()
    for text, says in [
        ("/nope", "No such file or directory"),
        ("nope", "No such file or directory"),
        ("file", "Not a directory"),
        ("state/\0", "is no path"),
        ("x" * 5000, "File name too long"),
        ("", "must not be empty"),
    ]:
        with pytest.raises(UsageError, match=says) as caught:
            state_directory(text)
        assert "\n" not in str(caught.value)


NAMES_OF_NERDCTL = "var/lib/nerdctl/1935db59/names"


def test_nerdctls_register_knows_of_a_rename(tmp_path: Path) -> None:
    write(tmp_path, f"{TASKS}/tests/{ID}/config.json", oci_configuration({"nerdctl/name": "old"}))
    write(tmp_path, f"{NAMES_OF_NERDCTL}/default/stray", ID.encode())
    write(tmp_path, f"{NAMES_OF_NERDCTL}/tests/another", b"f" * 64)
    state = RuntimeState(tmp_path)
    old = ContainerNames(runtime="containerd", container_name="old")
    assert state.names(KEY, None) == old
    write(tmp_path, f"{NAMES_OF_NERDCTL}/tests/new", ID.encode() + b"\n")
    new = ContainerNames(runtime="containerd", container_name="new")
    found = state.find(KEY, None)
    assert found is not None
    assert found.names == state.names(KEY, None) == new
    assert found.record is not None
    (tmp_path / NAMES_OF_NERDCTL / "tests/new").unlink()
    assert found.record.read() is None
    assert state.names(KEY, None) == old


@pytest.mark.parametrize("content", [b"", b"\xff" * 200, b"x" * 10_000, b"../../etc/passwd"])
def test_a_register_of_nerdctls_that_is_none(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, f"{TASKS}/tests/{ID}/config.json", oci_configuration({"nerdctl/name": "old"}))
    write(tmp_path, f"{NAMES_OF_NERDCTL}/tests/new", content)
    (tmp_path / NAMES_OF_NERDCTL / "tests" / "directory").mkdir()
    (tmp_path / "var/lib/nerdctl/file").write_bytes(b"")
    os.mkfifo(tmp_path / NAMES_OF_NERDCTL / "tests" / "fifo")
    assert RuntimeState(tmp_path).names(KEY, None) == ContainerNames(runtime="containerd", container_name="old")


def test_nerdctl_in_any_namespace(tmp_path: Path) -> None:
    annotations = {"nerdctl/name": "database", "nerdctl/namespace": "tests", "nerdctl/hostname": "h"}
    (tmp_path / TASKS / "empty").mkdir(parents=True)
    write(tmp_path, f"{TASKS}/tests/{ID}/config.json", oci_configuration(annotations))
    assert RuntimeState(tmp_path).names(KEY, "docker") == ContainerNames(
        runtime="containerd", container_name="database"
    )


@pytest.mark.parametrize("annotations", [None, {}, {"example.com/other": "x"}])
def test_bundle_without_names_still_tells_the_runtime(tmp_path: Path, annotations: dict[str, str] | None) -> None:
    write(tmp_path, BUNDLE, oci_configuration(annotations))
    assert RuntimeState(tmp_path).names(KEY, None) == ContainerNames(runtime="containerd")


# CRI-O


@pytest.mark.parametrize("storage", ["run/containers/storage", "var/lib/containers/storage"])
@pytest.mark.parametrize("driver", ["overlay", "vfs"])
@pytest.mark.parametrize("runtime", ["cri-o", None])
def test_pod_container_of_crio(tmp_path: Path, storage: str, driver: str, runtime: str | None) -> None:
    place = f"{storage}/{driver}-containers/{ID}/userdata/config.json"
    write(tmp_path, place, oci_configuration(crio_annotations()))
    assert RuntimeState(tmp_path).names(KEY, runtime) == in_pod("cri-o")


def test_sandbox_of_crio(tmp_path: Path) -> None:
    annotations = crio_annotations(
        **{"io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.container.name": "POD"}
    )
    del annotations["io.kubernetes.cri-o.ImageName"]
    write(tmp_path, CRIO, oci_configuration(annotations))
    assert RuntimeState(tmp_path).names(KEY, "cri-o") == sandbox("cri-o")


def test_spoilt_copy_below_run_does_not_hide_the_one_below_var_lib(tmp_path: Path) -> None:
    write(tmp_path, CRIO, b'{"annotations": {"io.container.man')
    write(tmp_path, PODMAN, oci_configuration(crio_annotations()))
    assert RuntimeState(tmp_path).names(KEY, "cri-o") == in_pod("cri-o")


def test_storage_of_an_unknown_manager_says_nothing(tmp_path: Path) -> None:
    write(tmp_path, CRIO, oci_configuration(crio_annotations(**{"io.container.manager": "other"})))
    assert RuntimeState(tmp_path).names(KEY, None) is None
    assert RuntimeState(tmp_path).names(KEY, "cri-o") == in_pod("cri-o")


# podman

PODMAN_ID = "08918d25048703d2ea28f7e075e08461cb21408caf468f7cc13ebad987e5fed7"


def podman_tree(root: Path, list_name: str = "containers.json") -> None:
    write(root, PODMAN.replace(ID, PODMAN_ID), (DATA / "podman_config.json").read_bytes())
    write(root, f"{PODMAN_STORE}/{list_name}", (DATA / "podman_containers.json").read_bytes())


@pytest.mark.parametrize("list_name", ["containers.json", "volatile-containers.json"])
@pytest.mark.parametrize("runtime", ["podman", "docker", None])
def test_container_of_podman(tmp_path: Path, list_name: str, runtime: str | None) -> None:
    podman_tree(tmp_path, list_name)
    expected = ContainerNames(runtime="podman", container_name="plain", image="localhost/busy:1")
    assert RuntimeState(tmp_path).names(ContainerKey(PODMAN_ID), runtime) == expected


def test_podman_renames_a_container(tmp_path: Path) -> None:
    podman_tree(tmp_path)
    state = RuntimeState(tmp_path)
    assert state.names(ContainerKey(PODMAN_ID), "podman") == state.names(ContainerKey(PODMAN_ID), "podman")
    replacement = write(tmp_path, "new", (DATA / "podman_containers.json").read_bytes().replace(b'"plain"', b'"fancy"'))
    replacement.rename(tmp_path / PODMAN_LIST)
    found = state.names(ContainerKey(PODMAN_ID), "podman")
    assert found is not None
    assert found.container_name == "fancy"


@pytest.mark.parametrize(
    "containers",
    [
        b"",
        b'[{"id": "0123',
        b"{}",
        b'[{"names": ["x"]}]',
        json.dumps([{"id": ID, "names": "x"}]).encode(),
        json.dumps([{"id": ID, "names": [1]}]).encode(),
        json.dumps([{"id": "f" * 64, "names": ["x"]}]).encode(),
        b"[" * 200_000,
    ],
)
def test_podman_without_a_useful_list(tmp_path: Path, containers: bytes) -> None:
    write(tmp_path, PODMAN, oci_configuration({"io.container.manager": "libpod"}))
    write(tmp_path, PODMAN_LIST, containers)
    assert RuntimeState(tmp_path).names(KEY, None) == ContainerNames(runtime="podman")


@pytest.mark.parametrize("metadata", ["", "{", "[]", '{"image-name": 1}', "[" * 100_000, SECRET])
def test_podman_with_spoilt_metadata_keeps_the_name(tmp_path: Path, metadata: str) -> None:
    write(tmp_path, PODMAN, oci_configuration({"io.container.manager": "libpod"}))
    write(tmp_path, PODMAN_LIST, [{"id": ID, "names": ["x", "y"], "metadata": metadata}])
    assert RuntimeState(tmp_path).names(KEY, None) == ContainerNames(runtime="podman", container_name="x")


def test_image_of_a_podman_container_cannot_make_it_a_pod(tmp_path: Path) -> None:
    write(tmp_path, PODMAN, oci_configuration(crio_annotations()))
    write(tmp_path, PODMAN_LIST, [{"id": ID, "names": ["x"]}])
    expected = ContainerNames(runtime="podman", container_name="x")
    assert RuntimeState(tmp_path).names(KEY, "podman") == expected


# Docker


@pytest.mark.parametrize("root", ["var/lib/docker", "var/snap/docker/common/var-lib-docker"])
@pytest.mark.parametrize("runtime", ["docker", None])
def test_container_of_docker(tmp_path: Path, root: str, runtime: str | None) -> None:
    content = (DATA / "docker_config.v2.json").read_bytes()
    # Its image bears the label of a pod's name.
    assert b"io.kubernetes.pod.name" in content
    write(tmp_path, f"{root}/containers/{ID}/config.v2.json", content)
    expected = ContainerNames(runtime="docker", container_name="plain", image="busy:1")
    assert RuntimeState(tmp_path).names(KEY, runtime) == expected


def test_data_root_of_docker_moved_by_a_link(tmp_path: Path) -> None:
    write(tmp_path, f"data/containers/{ID}/config.v2.json", docker_container("/x"))
    (tmp_path / "var" / "lib").mkdir(parents=True)
    (tmp_path / "var" / "lib" / "docker").symlink_to(tmp_path / "data")
    found = RuntimeState(tmp_path).names(KEY, "docker")
    assert found == ContainerNames(runtime="docker", container_name="x", image="busy:1")


@pytest.mark.parametrize("suffix", ["", "_0a1b2c3d"])
def test_pod_container_of_cri_dockerd(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, DOCKER, docker_container(f"/k8s_web_shop-7d9_prod_{UID}_3{suffix}"))
    found = RuntimeState(tmp_path).names(KEY, None)
    expected = in_pod("docker")
    assert found == ContainerNames(
        runtime="docker",
        container_name=expected.container_name,
        pod_name=expected.pod_name,
        pod_uid=UID,
        namespace="prod",
        image="busy:1",
    )


def test_sandbox_of_cri_dockerd(tmp_path: Path) -> None:
    container = docker_container(f"/k8s_POD_shop-7d9_prod_{UID}_0") | {"Config": None}
    write(tmp_path, DOCKER, container)
    assert RuntimeState(tmp_path).names(KEY, "docker") == sandbox("docker")


@pytest.mark.parametrize("name", ["k8s_web", "k8s", "_", f"k8s_a_b_c_{UID}_0_x_y", f"other_a_b_c_{UID}_0"])
def test_docker_names_that_only_look_like_a_pods(tmp_path: Path, name: str) -> None:
    write(tmp_path, DOCKER, docker_container(f"/{name}"))
    expected = ContainerNames(runtime="docker", container_name=name, image="busy:1")
    assert RuntimeState(tmp_path).names(KEY, "docker") == expected


TASK = "e95a40efbde84cbc8600660a109ec194"
ECS_LABELS = {
    "com.amazonaws.ecs.cluster": "prod",
    "com.amazonaws.ecs.container-name": "web_1",
    "com.amazonaws.ecs.task-arn": f"arn:aws:ecs:eu-west-1:123456789012:task/prod/{TASK}",
    "com.amazonaws.ecs.task-definition-family": "shop-web",
    "com.amazonaws.ecs.task-definition-version": "3",
}


def labelled(name: str, labels: object) -> dict[str, Any]:
    container = docker_container(name)
    return container | {"Config": container["Config"] | {"Labels": labels}}


def test_a_task_of_ecs_is_what_a_pod_is(tmp_path: Path) -> None:
    expected = ContainerNames(
        runtime="docker", container_name="web_1", pod_name="shop-web:3-e95a40ef", pod_uid=TASK, image="busy:1"
    )
    labels = ECS_LABELS
    for arn in (labels["com.amazonaws.ecs.task-arn"], f"arn:aws:ecs:eu-west-1:123456789012:task/{TASK}"):
        labels = ECS_LABELS | {"com.amazonaws.ecs.task-arn": arn}
        write(tmp_path, DOCKER, labelled("/ecs-shop-web-3-web1-c8a9d2b6e0f1a2b3c401", labels))
        assert RuntimeState(tmp_path).names(KEY, "docker") == expected
    labels = ECS_LABELS | {"com.amazonaws.ecs.container-name": "~internal~ecs~pause"}
    write(tmp_path, DOCKER, labelled("/ecs-shop-web-3-internalecspause-acc699c0cbf2d6d11700", labels))
    names = RuntimeState(tmp_path).names(KEY, "docker")
    assert names is not None
    assert (names.is_sandbox, names.container_name, names.pod_uid) == (True, None, TASK)


def test_an_allocation_of_nomad_is_what_a_pod_is(tmp_path: Path) -> None:
    write(tmp_path, DOCKER, labelled(f"/web-1-{UID}", {"com.hashicorp.nomad.alloc_id": UID}))
    assert RuntimeState(tmp_path).names(KEY, "docker") == ContainerNames(
        runtime="docker", container_name="web-1", pod_uid=UID, image="busy:1"
    )


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("web", ECS_LABELS),
        ("ecs-shop-web-4-web1-c8a9", ECS_LABELS),
        ("ecs-shop-web-3-web1-c8a9", ECS_LABELS | {"com.amazonaws.ecs.task-arn": "arn:aws:ecs:task/prod/1"}),
        ("ecs-shop-web-3-web1-c8a9", {"com.amazonaws.ecs.task-arn": f"task/{TASK}"}),
        (f"web-{UID}", {"com.hashicorp.nomad.alloc_id": UID.replace("8", "9")}),
        (f"web-{UID}", {}),
        (f"web-{UID}", None),
        (f"-{UID}", {"com.hashicorp.nomad.alloc_id": UID}),
        ("web", {"com.hashicorp.nomad.alloc_id": UID}),
    ],
)
def test_labels_that_an_image_may_have_brought(tmp_path: Path, name: str, labels: object) -> None:
    write(tmp_path, DOCKER, labelled(f"/{name}", labels))
    assert RuntimeState(tmp_path).names(KEY, "docker") == ContainerNames(
        runtime="docker", container_name=name, image="busy:1"
    )


def test_bundle_of_a_docker_container_does_not_hide_its_names(tmp_path: Path) -> None:
    write(tmp_path, f"{TASKS}/moby/{ID}/config.json", oci_configuration(None))
    write(tmp_path, DOCKER, docker_container("/x"))
    found = RuntimeState(tmp_path).names(KEY, None)
    assert found == ContainerNames(runtime="docker", container_name="x", image="busy:1")


# Whose state is asked


def test_runtime_that_the_path_tells_is_asked_first(tmp_path: Path) -> None:
    write(tmp_path, BUNDLE, oci_configuration(containerd_annotations()))
    write(tmp_path, CRIO, oci_configuration(crio_annotations()))
    write(tmp_path, DOCKER, docker_container("/x"))
    state = RuntimeState(tmp_path)
    for runtime in ("containerd", "cri-o", "podman", "docker"):
        found = state.names(KEY, runtime)
        assert found is not None
        assert found.runtime == runtime


def test_nothing_there(tmp_path: Path) -> None:
    assert RuntimeState(tmp_path).names(KEY, None) is None
    assert RuntimeState(tmp_path / "missing").names(KEY, "docker") is None


@pytest.mark.parametrize(
    "container_id",
    [
        "",
        "..",
        ID[1:],
        ID + "0",
        ID.upper(),
        ID + "\n",
        "../k8s.io/" * 6 + "aaaa",
        "é" * 64,
        ID[:-1] + "\0",
        ID[:-1] + "/",
    ],
)
def test_ids_that_are_none_lead_to_no_file(tmp_path: Path, container_id: str) -> None:
    if "\0" not in container_id:
        content = oci_configuration(containerd_annotations())
        write(tmp_path, f"{TASKS}/k8s.io/{container_id}/config.json", content)
    assert RuntimeState(tmp_path).names(ContainerKey(container_id), None) is None


# Files that nobody should trust


@pytest.mark.parametrize("place", PLACES)
def test_file_appears_later(tmp_path: Path, place: str) -> None:
    state = RuntimeState(tmp_path)
    assert state.names(KEY, None) is None
    content = {
        BUNDLE: oci_configuration(containerd_annotations()),
        CRIO: oci_configuration(crio_annotations()),
        PODMAN: oci_configuration({"io.container.manager": "libpod"}),
        DOCKER: docker_container("/x"),
    }[place]
    encoded = json.dumps(content).encode()
    for half in (b"", encoded[:1], encoded[: len(encoded) // 2], encoded[:-1]):
        write(tmp_path, place, half)
        assert state.names(KEY, None) is None
    write(tmp_path, place, encoded)
    assert state.names(KEY, None) is not None


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.mkdir()


def _link_to_good_file(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_text(json.dumps(oci_configuration(crio_annotations()) | docker_container("/x")))
    path.symlink_to(target)


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _too_large(path: Path) -> None:
    content = json.dumps(oci_configuration(crio_annotations()) | docker_container("/x")).encode()
    path.write_bytes(content + b" " * (MAX_BYTES + 1 - len(content)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [_fifo, _directory, _link_to_good_file, _link_to_itself, _link_to_device, _too_large])
def test_no_ordinary_file(tmp_path: Path, place: str, make: Callable[[Path], None]) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    make(path)
    found: list[ContainerNames | None] = []
    thread = threading.Thread(target=lambda: found.append(RuntimeState(tmp_path).names(KEY, None)), daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert found == [None]


@pytest.mark.root
def test_device(tmp_path: Path) -> None:
    path = tmp_path / BUNDLE
    path.parent.mkdir(parents=True)
    os.mknod(path, 0o020600, os.makedev(1, 5))
    assert RuntimeState(tmp_path).names(KEY, None) is None


def test_largest_file_that_is_read(tmp_path: Path) -> None:
    content = json.dumps(oci_configuration(containerd_annotations())).encode()
    write(tmp_path, BUNDLE, content + b" " * (MAX_BYTES - len(content)))
    assert RuntimeState(tmp_path).names(KEY, None) == in_pod("containerd")


@pytest.mark.parametrize("place", PLACES)
def test_file_in_place_of_a_directory(tmp_path: Path, place: str) -> None:
    for directory in list(Path(place).parents)[:-1]:
        root = tmp_path / str(len(directory.parts))
        write(root, str(directory), b"x")
        assert RuntimeState(root).names(KEY, None) is None


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b"0",
        b'"x"',
        b'{"annotations": []}',
        b'{"annotations": {"io.kubernetes.cri.sandbox-name": 1, "io.container.manager": []}, "Name": {}}',
        b'{"annotations": {"io.kubernetes.cri.sandbox-name": "\xff", "io.container.manager": "\xff"}, "Name": "\xff"}',
        b'{"annotations": {"io.kubernetes.cri.sandbox-name": "\\ud800", "io.container.manager": "\\ud800"},'
        b' "Name": "\\ud800"}',
        b'{"x": ' + b"[" * 1_000_000,
        b'{"x": ' + b'{"x":' * 500_000,
        b'{"annotations": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b', "Name": {}}',
        b"\0" * 100,
        b"\x1b[2J",
    ],
)
def test_hostile_content(tmp_path: Path, place: str, content: bytes) -> None:
    write(tmp_path, place, content)
    found = RuntimeState(tmp_path).names(KEY, None)
    assert found is None or found == ContainerNames(runtime=found.runtime)


def texts_of(names: ContainerNames) -> list[str]:
    values = (names.container_name, names.pod_name, names.pod_uid, names.namespace, names.image)
    return [value for value in values if value is not None]


HOSTILE_NAMES = ["x" * 2**18, "a\x1b[31mb\r\nc\u202e\0\x7f", "\U000e0001" * 600, "../../../etc", "<b>&amp;"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_come_out_short_and_printable(tmp_path: Path, name: str) -> None:
    roots = [tmp_path / str(number) for number in range(4)]
    write(roots[0], BUNDLE, oci_configuration(dict.fromkeys(containerd_annotations(), name)))
    write(roots[1], CRIO, oci_configuration(dict.fromkeys(crio_annotations(), name)))
    write(roots[2], PODMAN, oci_configuration({"io.container.manager": "libpod"}))
    write(roots[2], PODMAN_LIST, [{"id": ID, "names": [name], "metadata": json.dumps({"image-name": name})}])
    write(roots[3], DOCKER, {"Name": f"/k8s_{name}_{name}_{name}_{name}_0", "Config": {"Image": name}})
    for root, runtime in zip(roots, ("containerd", "cri-o", "podman", "docker"), strict=True):
        found = RuntimeState(root).names(KEY, runtime)
        assert found is not None
        texts = texts_of(found)
        assert len(texts) >= 2
        for text in texts:
            assert text.isprintable()
            assert 0 < len(text) <= 512


@pytest.mark.parametrize("place", PLACES)
def test_secrets_are_not_kept(tmp_path: Path, place: str) -> None:
    write(tmp_path, BUNDLE, oci_configuration(containerd_annotations()))
    write(tmp_path, CRIO, oci_configuration(crio_annotations()))
    podman_tree(tmp_path)
    write(tmp_path, DOCKER, (DATA / "docker_config.v2.json").read_bytes())
    assert SECRET.encode() in (tmp_path / place.replace(ID, PODMAN_ID if place == PODMAN else ID)).read_bytes()
    state = RuntimeState(tmp_path)
    for runtime in ("containerd", "cri-o", "docker"):
        assert SECRET not in repr(state.names(KEY, runtime))
    assert SECRET not in repr(state.names(ContainerKey(PODMAN_ID), "podman"))


@pytest.fixture(scope="module")
def fresh_roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("roots")
    return (base / str(number) for number in count())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)
annotation_keys = st.sampled_from(sorted(containerd_annotations() | crio_annotations() | {"nerdctl/name": ""}))
well_formed = st.fixed_dictionaries(
    {
        "annotations": st.dictionaries(annotation_keys, st.text()),
        "Name": st.text() | st.from_regex(r"/k8s_.*_.*_.*_.*_.*"),
        "Config": st.fixed_dictionaries({"Image": st.text()}),
    }
)
ill_formed = st.fixed_dictionaries(
    {},
    optional={
        "annotations": st.dictionaries(annotation_keys, json_values) | json_values,
        "Name": json_values,
        "Config": st.fixed_dictionaries({"Image": json_values}) | json_values,
    },
)
metadata = st.builds(lambda image: json.dumps({"image-name": image}), st.text() | json_values) | st.text()
well_formed_entry = st.fixed_dictionaries({"id": st.just(ID), "names": st.lists(st.text()), "metadata": metadata})
ill_formed_entry = st.dictionaries(st.sampled_from(["id", "names", "metadata"]), json_values)


def encoded(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return values.map(lambda value: json.dumps(value).encode())


contents = encoded(well_formed) | encoded(ill_formed) | encoded(json_values) | st.binary()
lists = encoded(st.lists(well_formed_entry)) | encoded(st.lists(ill_formed_entry)) | encoded(json_values) | st.binary()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=contents,
    store_list=lists,
    runtime=st.sampled_from(["containerd", "cri-o", "podman", "docker", None]),
)
def test_any_content_is_harmless(
    fresh_roots: Iterator[Path], content: bytes, store_list: bytes, runtime: str | None
) -> None:
    root = next(fresh_roots)
    for place in PLACES:
        write(root, place, content)
    write(root, PODMAN_LIST, store_list)
    found = RuntimeState(root).names(KEY, runtime)
    if found is None:
        return
    assert found.runtime in {"containerd", "cri-o", "podman", "docker"}
    assert not (found.is_sandbox and found.container_name)
    for text in texts_of(found):
        assert text.isprintable()
        assert 0 < len(text) <= 512
