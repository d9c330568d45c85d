# SPDX-License-Identifier: Apache-2.0
"""The container image, as docs/container.md and the chart run it: without `privileged` it traces the node and names its
containers. Run in a guest with systemd, podman and containerd, to which `scripts/vm run --container-image` brings it.

The processor is emulated, and compiling takes minutes: both runs share a directory for it.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.append(str(Path(__file__).parents[1] / "node"))
from busybox_image import IMAGE, write_image_archive
from containerd_node import _DEFAULT_CAPABILITIES as DEFAULT_CAPABILITIES

pytestmark = pytest.mark.root

CAPABILITIES = ("BPF", "PERFMON", "DAC_READ_SEARCH", "SYS_NICE")
BITS = 1 << 39 | 1 << 38 | 1 << 2 | 1 << 23
WORK = "while :; do sleep 0.1; done"
STATE = ("/run/containerd", "/run/containers", "/var/lib/containers", "/var/lib/docker/containers")
RUN = ("run", "--duration", "15s", "--resctrl", "off", "--node-name", "node-7", "--output", "/results")
STATUS = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; touch /x 2>&1; true"


def sh(*command: str | Path) -> str:
    """Runs a command that is to succeed; what it printed."""
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, f"{shlex.join(map(str, command))}: {ran.stdout}{ran.stderr}"
    return ran.stdout + ran.stderr


@pytest.fixture(scope="module", autouse=True)
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Images are there, and containers that others run, by whose names they are to be found."""
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    write_image_archive(Path(shutil.which("busybox") or ""), archive)
    sh("systemctl", "start", "containerd")
    for image in (archive, "/guest/tracer.oci.tar"):
        sh("podman", "load", "--quiet", "--input", image)
    sh("podman", "tag", "localhost/tracer:latest", "tracer")
    sh("ctr", "-n", "k8s.io", "images", "import", archive)
    sh("podman", "run", "-d", "--name", "neighbour", "--network", "none", IMAGE, "sh", "-c", WORK)
    sh("ctr", "-n", "k8s.io", "run", "-d", "--label", "io.kubernetes.container.name=app",
       "--label", "io.kubernetes.pod.name=shop-1", "--label", "io.kubernetes.pod.namespace=shop",
       IMAGE, "c" * 64, "sh", "-c", WORK)  # fmt: skip
    # Kernels of Debian ask for CAP_SYS_ADMIN otherwise.
    sh("sysctl", "-q", "kernel.perf_event_paranoid=2")
    for path in (*STATE, "/var/cache/numba"):
        Path(path).mkdir(parents=True, exist_ok=True)
    return {"neighbour"}


def require_confined(said: str) -> None:
    """Few capabilities, a seccomp filter, no new privileges, a root that is read-only."""
    assert "Read-only file system" in said, said
    status = dict(line.split(":\t") for line in said.splitlines() if ":\t" in line)
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16)) == (BITS, BITS)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")


def require_traced(results: Path, said: str, own: str) -> None:
    """The whole node, each container by its name, its own among them."""
    assert "none lost" in said, said
    (manifest,) = (json.loads(file.read_text()) for file in results.glob("runs/*/session.json"))
    assert (manifest["status"], manifest["host"]["node_name"]) == ("finished", "node-7")
    windows = pl.read_parquet(results / "windows/**/*.parquet", hive_partitioning=False)
    print(windows.select("cgroup_kind", "runtime", "container_name", "cgroup_path").unique().to_dicts())
    assert windows.filter(cgroup_kind="unknown").is_empty()
    assert {"neighbour", own} <= set(windows["container_name"])
    assert "/system.slice/containerd.service" in set(windows["cgroup_path"])
    assert any("c" * 64 in (path or "") for path in windows["cgroup_path"])
    assert pl.read_parquet(results / "waits/**/*.parquet", hive_partitioning=False).height


def podmans_profile(directory: Path) -> Path:
    """By the command of docs/container.md."""
    page = (Path(__file__).parents[2] / "docs" / "container.md").read_text()
    (command,) = re.findall(r"^jq .*?>seccomp\.json$", page, re.MULTILINE | re.DOTALL)
    subprocess.run(["sh", "-ec", command], cwd=directory, check=True)
    return directory / "seccomp.json"


def test_podman_runs_it_as_documented(tmp_path: Path) -> None:
    options = ["--rm", "--name", "tracer", "--pid", "host", "--network", "none", "--read-only", "--tmpfs", "/tmp"]
    options += ["--cap-drop", "all", "--cap-add", ",".join(CAPABILITIES), "--security-opt", "no-new-privileges"]
    options += ["--security-opt", f"seccomp={podmans_profile(tmp_path)}"]
    options += ["-v", "/sys/fs/cgroup:/sys/fs/cgroup:ro", "-v", f"{tmp_path}:/results"]
    for path in STATE:
        options += ["-v", f"{path}:{path}:ro,rslave"]
    require_confined(sh("podman", "run", *options, "--entrypoint", "sh", "tracer", "-c", STATUS))
    options += ["-v", "/var/cache/numba:/numba", "-e", "NUMBA_CACHE_DIR=/numba"]
    require_traced(tmp_path, sh("podman", "run", *options, "tracer", *RUN), "tracer")


def test_containerd_runs_it_as_a_pod_of_the_chart_is_run(tmp_path: Path) -> None:
    # There is no room for it twice.
    sh("podman", "rmi", "--force", "tracer", "localhost/tracer:latest")
    sh("ctr", "-n", "k8s.io", "images", "import", "/guest/tracer.oci.tar")
    (image,) = (name for name in sh("ctr", "-n", "k8s.io", "images", "list", "-q").split() if "tracer" in name)
    options = ["--rm", "--read-only", "--seccomp", "--with-ns", "pid:/proc/1/ns/pid"]
    options += [option for one in DEFAULT_CAPABILITIES for option in ("--cap-drop", one)]
    options += [option for one in CAPABILITIES for option in ("--cap-add", f"CAP_{one}")]
    options += ["--env", "NUMBA_CACHE_DIR=/numba"]
    mounts = {"/sys/fs/cgroup": "/sys/fs/cgroup", **{path: path for path in STATE}}
    options += [option for source, place in mounts.items()
                for option in ("--mount", f"type=bind,src={source},dst={place},options=rbind:ro:rslave")]  # fmt: skip
    for source, place in ((str(tmp_path), "/results"), ("/var/cache/numba", "/numba")):
        options += ["--mount", f"type=bind,src={source},dst={place},options=rbind:rw"]
    run = ("ctr", "-n", "k8s.io", "run", *options, image)
    require_confined(sh(*run, "status", "sh", "-c", STATUS))
    require_traced(tmp_path, sh(*run, "tracer", "tracer", *RUN), "neighbour")
