# SPDX-License-Identifier: Apache-2.0
"""A node of one's own on the machine at hand: containerd with the Container Runtime Interface and NRI, and its pods.

It runs from a Debian tree of its own, in a mount namespace of its own, and in a cgroup of its own, below which pods
have the cgroups that kubelet and containerd would give them: `<node's>/kubepods/burstable/pod<uid>/<container id>`. It
shares all else with the machine: process ids, the network, and the clock are the host's. Needs root.
"""

import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import grpc
from busybox_image import IMAGE, PAUSE_IMAGE, write_image_archive

from tracer.containers.cgroupfs import find_cgroup2_mount

_HERE = Path(__file__).parent
_TREE_SCRIPT = _HERE.parents[1] / "scripts" / "containerd-tree"
_WAIT_SECONDS = 30.0
# What containerd gives a container (defaultUnixCaps() of its oci package).
_DEFAULT_CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
        "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    )
)  # fmt: skip
_CALL_SECONDS = 60.0

_Result = TypeVar("_Result")

_cri, _services = grpc.protos_and_services("cri.proto")
# Process ids as kubelet has them by default; the host's network, since a pod's own needs plug-ins.
_NAMESPACES = _cri.NamespaceOption(network=_cri.NODE, pid=_cri.CONTAINER)


class Pod(NamedTuple):
    """A pod, which lives until `ContainerdNode.remove_pod()`."""

    id: str
    """Of its sandbox."""
    name: str
    namespace: str
    uid: str
    cgroup: Path
    """The pod's own cgroup; the sandbox's is `cgroup / id`."""
    annotations: tuple[tuple[str, str], ...] = ()


class Container(NamedTuple):
    """A container of a pod."""

    id: str
    name: str
    pod: Pod

    @property
    def cgroup(self) -> Path:
        """Its cgroup as the host sees it; it exists from the container's creation until its end."""
        return self.pod.cgroup / self.id


class ContainerdNode:
    """A running containerd; as a context manager it starts and, with all that it started, ends.

    Errors of containerd are `grpc.RpcError`.
    """

    def __init__(self, directory: Path) -> None:
        """What it keeps is in `directory`, which it makes and removes; the path must be short enough for sockets."""
        self.directory = directory
        self.state = directory / "state"
        self.nri_socket = directory / "nri.sock"
        self.log = directory / "containerd.log"
        self._socket = directory / "containerd.sock"
        self._cgroup2 = find_cgroup2_mount()
        self.cgroup = self._cgroup2 / f"tracer-node-{uuid.uuid4()}"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            tree = Path(subprocess.run([_TREE_SCRIPT], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
            # Fails if it is there: only what was made here may be removed.
            self.directory.mkdir()
            undo.callback(shutil.rmtree, self.directory)
            config = Template((_HERE / "containerd.toml").read_text())
            (self.directory / "containerd.toml").write_text(
                config.substitute(directory=self.directory, pause_image=PAUSE_IMAGE)
            )
            shutil.copy(_HERE / "runc_in_node.sh", self.directory)
            self._start_keeper(tree, undo)
            self._start_containerd()
            undo.callback(self._stop_containerd)
            self._import_images(tree / "usr" / "bin" / "busybox")
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()

    def restart_containerd(self) -> None:
        """Ends containerd and starts it anew; pods go on meanwhile."""
        self._stop_containerd()
        self._start_containerd()

    def run_pod(
        self,
        name: str,
        namespace: str = "default",
        uid: str | None = None,
        qos_class: str = "burstable",
        annotations: tuple[tuple[str, str], ...] = (),
    ) -> Pod:
        """Starts a pod with the host's network and no container yet; `qos_class` as kubelet names its cgroups."""
        uid = uid or str(uuid.uuid4())
        parent = self.cgroup / "kubepods" / ("" if qos_class == "guaranteed" else qos_class)
        pod = Pod("", name, namespace, uid, parent / f"pod{uid}", annotations)
        # As kubelet does before it asks the runtime for the pod.
        pod.cgroup.mkdir(parents=True)
        answer = self._runtime.RunPodSandbox(
            _cri.RunPodSandboxRequest(config=self._pod_config(pod)), timeout=_CALL_SECONDS
        )
        return pod._replace(id=answer.pod_sandbox_id)

    def remove_pod(self, pod: Pod) -> None:
        """Ends a pod and its containers and removes them and their cgroups; one that is gone already may be named."""
        self._runtime.StopPodSandbox(_cri.StopPodSandboxRequest(pod_sandbox_id=pod.id), timeout=_CALL_SECONDS)
        self._runtime.RemovePodSandbox(_cri.RemovePodSandboxRequest(pod_sandbox_id=pod.id), timeout=_CALL_SECONDS)
        if pod.cgroup.exists():
            pod.cgroup.rmdir()

    def create_container(self, pod: Pod, name: str, *command: str) -> Container:
        """Creates a container that will run a command of busybox, such as `sh`, `-c`, `…`."""
        config = _cri.ContainerConfig(
            metadata=_cri.ContainerMetadata(name=name),
            image=_cri.ImageSpec(image=IMAGE),
            command=command,
            labels={**_pod_labels(pod), "io.kubernetes.container.name": name},
            linux=_cri.LinuxContainerConfig(
                security_context=_cri.LinuxContainerSecurityContext(namespace_options=_NAMESPACES)
            ),
        )
        answer = self._runtime.CreateContainer(
            _cri.CreateContainerRequest(pod_sandbox_id=pod.id, config=config, sandbox_config=self._pod_config(pod)),
            timeout=_CALL_SECONDS,
        )
        return Container(answer.container_id, name, pod)

    def start_container(self, container: Container) -> None:
        """Starts a created container; returns when its command runs, or ran."""
        self._runtime.StartContainer(_cri.StartContainerRequest(container_id=container.id), timeout=_CALL_SECONDS)

    def run_container(self, pod: Pod, name: str, *command: str) -> Container:
        """Creates and starts a container."""
        container = self.create_container(pod, name, *command)
        self.start_container(container)
        return container

    def stop_container(self, container: Container) -> None:
        """Kills what runs in a container."""
        self._runtime.StopContainer(_cri.StopContainerRequest(container_id=container.id), timeout=_CALL_SECONDS)

    def remove_container(self, container: Container) -> None:
        """Removes a container, which may still run."""
        self._runtime.RemoveContainer(_cri.RemoveContainerRequest(container_id=container.id), timeout=_CALL_SECONDS)

    def wait_for_exit(self, container: Container) -> Any:
        """Returns the CRI's ContainerStatus of a container that ends by itself: exit code, times in ns since 1970."""

        def exited() -> Any:
            request = _cri.ContainerStatusRequest(container_id=container.id)
            status = self._runtime.ContainerStatus(request, timeout=_CALL_SECONDS).status
            return status if status.state == _cri.CONTAINER_EXITED else None

        return _wait(exited, f"the end of container {container.name}")

    def exec_in(self, container: Container, *command: str) -> str:
        """Runs a command in a running container, waits for its end, and returns what it printed.

        Raises RuntimeError if it fails.
        """
        answer = self._runtime.ExecSync(_cri.ExecSyncRequest(container_id=container.id, cmd=command))
        if answer.exit_code:
            raise RuntimeError(f"{command} ended with {answer.exit_code}: {answer.stderr.decode()}")
        return str(answer.stdout.decode())

    def run_installed(
        self, *command: str | Path, capabilities: tuple[str, ...], environment: dict[str, str], writable: Path
    ) -> subprocess.CompletedProcess[str]:
        """Runs what is installed on the machine in a container of uid 0, and waits for its end.

        It has the machine's root, read-only, containerd's default seccomp profile and, of all capabilities, those that
        are named; the machine's cgroups, read-only; and `writable`, a directory below the node's own, at /mnt.
        """
        client = self._in_node("ctr", "--address", self._socket)
        options = ["--rm", "--rootfs", "--read-only", "--seccomp", "--cwd", "/"]
        options += [option for one in _DEFAULT_CAPABILITIES for option in ("--cap-drop", one)]
        options += [option for one in capabilities for option in ("--cap-add", one)]
        options += [option for name, value in environment.items() for option in ("--env", f"{name}={value}")]
        options += ["--mount", f"type=bind,src={writable},dst=/mnt,options=rbind:rw"]
        options += ["--mount", "type=bind,src=/cgroups,dst=/sys/fs/cgroup,options=rbind:ro"]
        options += ["--runc-binary", str(self.directory / "runc_in_node.sh")]
        return subprocess.run(
            [*client, "run", *options, "/machine", f"installed-{uuid.uuid4()}", *command],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True, timeout=600,
        )  # fmt: skip

    def running_pods(self) -> set[str]:
        """Sandbox ids of the pods that run."""
        items = self._runtime.ListPodSandbox(_cri.ListPodSandboxRequest(), timeout=_CALL_SECONDS).items
        return {item.id for item in items if item.state == _cri.SANDBOX_READY}

    def running_containers(self) -> set[str]:
        """Ids of the containers that run."""
        listed = self._runtime.ListContainers(_cri.ListContainersRequest(), timeout=_CALL_SECONDS).containers
        return {item.id for item in listed if item.state == _cri.CONTAINER_RUNNING}

    def bundle(self, id: str) -> Path:
        """The directory with the `config.json` of a container or sandbox."""
        return self.state / "io.containerd.runtime.v2.task" / "k8s.io" / id

    def _pod_config(self, pod: Pod) -> Any:
        return _cri.PodSandboxConfig(
            metadata=_cri.PodSandboxMetadata(name=pod.name, uid=pod.uid, namespace=pod.namespace),
            labels=_pod_labels(pod),
            annotations=dict(pod.annotations),
            linux=_cri.LinuxPodSandboxConfig(
                cgroup_parent=f"/{pod.cgroup.relative_to(self._cgroup2)}",
                security_context=_cri.LinuxSandboxSecurityContext(namespace_options=_NAMESPACES),
            ),
        )

    def _start_keeper(self, tree: Path, undo: ExitStack) -> None:
        self._keeper = subprocess.Popen(
            [_HERE / "keeper.sh", tree, self.directory, self.cgroup],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        # Closes its input, upon which it ends all that runs in the node.
        undo.callback(self._keeper.communicate, timeout=_WAIT_SECONDS)
        assert self._keeper.stdout is not None
        self._first_process = self._keeper.stdout.readline().strip()
        if not self._first_process:
            raise RuntimeError("the node's root could not be made")

    def _in_node(self, *command: str | Path) -> list[str | Path]:
        """The command line that runs a command in the node's cgroup and mount namespace."""
        enter = ["/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', self.cgroup / "runtime" / "cgroup.procs"]
        return [*enter, "nsenter", "--mount", "--target", self._first_process, *command]

    def _start_containerd(self) -> None:
        with self.log.open("a") as log:
            self._containerd = subprocess.Popen(
                self._in_node("containerd", "--config", self.directory / "containerd.toml"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _wait(self._accepts, "containerd's socket")
        self._channel = grpc.insecure_channel(f"unix:{self._socket}")
        self._runtime = _services.RuntimeServiceStub(self._channel)
        self._images = _services.ImageServiceStub(self._channel)
        _wait(self._answers, "containerd's runtime interface")

    def _stop_containerd(self) -> None:
        self._channel.close()
        self._containerd.terminate()
        self._containerd.wait(_WAIT_SECONDS)

    def _accepts(self) -> bool:
        if self._containerd.poll() is not None:
            raise RuntimeError(f"containerd ended: {self.log.read_text()[-4000:]}")
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(str(self._socket)) == 0

    def _answers(self) -> bool:
        try:
            self.running_pods()
        except grpc.RpcError:
            # It listens before its plug-ins are ready.
            return False
        return True

    def _import_images(self, busybox: Path) -> None:
        archive = self.directory / "images.tar"
        write_image_archive(busybox, archive)
        client = self._in_node("ctr", "--address", self._socket, "--namespace", "k8s.io")
        subprocess.run([*client, "images", "import", archive], check=True, stdout=subprocess.DEVNULL)
        archive.unlink()
        # The runtime interface hears of images by events.
        _wait(self._has_images, "the images")

    def _has_images(self) -> bool:
        requests = [_cri.ImageStatusRequest(image=_cri.ImageSpec(image=image)) for image in (IMAGE, PAUSE_IMAGE)]
        return all(self._images.ImageStatus(request, timeout=_CALL_SECONDS).image.id for request in requests)


def _pod_labels(pod: Pod) -> dict[str, str]:
    """The labels by which kubelet finds its own again."""
    return {
        "io.kubernetes.pod.name": pod.name,
        "io.kubernetes.pod.namespace": pod.namespace,
        "io.kubernetes.pod.uid": pod.uid,
    }


def _wait(condition: Callable[[], _Result], what: str) -> _Result:
    """The condition's result, once it is true; TimeoutError if that takes too long."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_WAIT_SECONDS} s for {what}")
        time.sleep(0.02)
    return result
