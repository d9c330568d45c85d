# SPDX-License-Identifier: Apache-2.0
"""`tracer topology`: as people and programs see it, of trees after real machines and of this node."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_answers import answer_of
from sysfs_tree import Node, hybrid, many_caches, one_cache_across_nodes, sub_numa_clusters, two_sockets_of_two_dies

from tracer.cli.printing import TextOutput
from tracer.cli.topology_tree import print_tree
from tracer.containers.runtimes import CgroupTree, Runtime
from tracer.kernel.cpus import format_cpu_list, online_cpus
from tracer.pipeline.node import NodeTopology

TRACER = [sys.executable, "-c", "from tracer.cli.main import main; main()", "topology"]
CGROUP = CgroupTree("/sys/fs/cgroup", ["cpu", "memory"], "systemd")
RUNTIMES = [Runtime("containerd", ["/run/containerd"], ["systemd"]), Runtime("podman", ["/run/libpod"], [])]


def node_topology(
    node: Node, cgroup: CgroupTree | None = CGROUP, runtimes: list[Runtime] | None = None
) -> NodeTopology:
    known = msgspec.structs.asdict(node.read())
    return NodeTopology(**known, cgroup=cgroup, runtimes=RUNTIMES if runtimes is None else runtimes)


def printed(topology: NodeTopology, width: int = 80, encoding: str = "utf-8") -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_tree(topology, "node7: Linux 6.18, x86_64", TextOutput(file, width=width))
    file.flush()
    file.seek(0)
    return file.read().splitlines()


def test_a_tree_of_two_sockets_with_two_dies_each(tmp_path: Path) -> None:
    assert printed(node_topology(two_sockets_of_two_dies(tmp_path))) == [
        "node7: Linux 6.18, x86_64",
        "├── processor: unknown",
        "├── 16 CPUs, 8 cores, SMT on  CPUs 0-15",
        "│   ├── package 0, NUMA node 0  CPUs 0-7",
        "│   │   ├── die 0, LLC 0: L3 16 MiB 16-way  CPUs 0-3",
        "│   │   │   └── 2 cores with SMT siblings  CPUs 0-1 2-3",
        "│   │   └── die 1, LLC 1: L3 16 MiB 16-way  CPUs 4-7",
        "│   │       └── 2 cores with SMT siblings  CPUs 4-5 6-7",
        "│   └── package 1, NUMA node 1  CPUs 8-15",
        "│       ├── die 0, LLC 2: L3 16 MiB 16-way  CPUs 8-11",
        "│       │   └── 2 cores with SMT siblings  CPUs 8-9 10-11",
        "│       └── die 1, LLC 3: L3 16 MiB 16-way  CPUs 12-15",
        "│           └── 2 cores with SMT siblings  CPUs 12-13 14-15",
        "├── memory: pages of 4 KiB",
        "│   ├── NUMA node 0: 1 GiB, distances 10 20",
        "│   └── NUMA node 1: 1 GiB, distances 20 10",
        "├── frequency: not set by this kernel",
        "├── no PMU",
        "├── resctrl: not supported",
        "├── cgroups: at /sys/fs/cgroup, controllers cpu memory, kubelet by systemd",
        "├── runtime containerd: /run/containerd, cgroups by systemd",
        "└── runtime podman: /run/libpod, no container now",
    ]


def test_a_tree_with_all_that_can_be_known(tmp_path: Path) -> None:
    node = hybrid(tmp_path)
    node.cpuinfo("vendor_id: GenuineIntel\ncpu family: 6\nmodel: 170\nmodel name: Example Ultra 7\nflags: hypervisor\n")
    node.write_sys("class/dmi/id/sys_vendor", "Example")
    node.write_sys("class/dmi/id/product_name", "Box 3")
    node.write("cpu/present", "0-11")
    node.write("cpu/isolated", "8-9")
    for number, cpus, maximum in ((0, "0 1 2 3", 4_800_000), (4, "4 5 6 7 8 9", 3_812_345)):
        for name, text in {
            "affected_cpus": cpus,
            "scaling_driver": "intel_pstate",
            "scaling_governor": "powersave",
            "scaling_min_freq": 400_000,
            "scaling_max_freq": maximum,
            "base_frequency": 2_000_000,
            "energy_performance_preference": "balance",
        }.items():
            node.write(f"cpu/cpufreq/policy{number}/{name}", text)
    node.write("cpu/intel_pstate/no_turbo", 0)
    node.write_sys("bus/event_source/devices/cpu_core/events/cpu-cycles", "event=0x3c")
    node.write_sys("bus/event_source/devices/cpu_core/events/cache-misses", "event=0x2e,umask=0x41")
    node.write_proc("sys/kernel/nmi_watchdog", 1)
    node.write_proc("meminfo", "MemTotal: 16252928 kB\nSwapTotal: 0 kB")
    node.write_proc("cmdline", "mitigations=off")
    node.write_proc("filesystems", "nodev\tresctrl")
    assert printed(node_topology(node, cgroup=None, runtimes=[])) == [
        "node7: Linux 6.18, x86_64",
        "├── processor: Example Ultra 7, family 6 model 170, hypervisor unknown",
        "├── machine: Example, Box 3",
        "├── 10 CPUs, 8 cores, SMT on  CPUs 0-9",
        "│   ├── offline  CPUs 10-11",
        "│   ├── isolated  CPUs 8-9",
        "│   └── package 0  CPUs 0-9",
        "│       ├── LLC 0: L3 24 MiB  CPUs 0-7",
        "│       │   ├── 2 cores of cpu_core with SMT siblings  CPUs 0-1 2-3",
        "│       │   └── 4 cores of cpu_atom  CPUs 4-7",
        "│       └── LLC 1: L2 2 MiB  CPUs 8-9",
        "│           └── 2 cores of cpu_atom  CPUs 8-9",
        "├── memory: 15.5 GiB, swap 0 B, pages of 4 KiB",
        "├── frequency: 2 policies, turbo on",
        "│   ├── intel_pstate, governor powersave, 0.4 GHz to 4.8 GHz, base 2 GHz,",
        "│   │   preference balance  CPUs 0-3",
        "│   └── intel_pstate, governor powersave, 0.4 GHz to 3.81 GHz, base 2 GHz,",
        "│       preference balance  CPUs 4-9",
        "├── PMUs, and what events count on them",
        "│   ├── PMU cpu_atom, a counter is held by the NMI watchdog  CPUs 4-9",
        "│   └── PMU cpu_core, a counter is held by the NMI watchdog  CPUs 0-3",
        "│       ├── cycles: cpu-cycles, event=0x3c",
        "│       └── cache-misses: event=0x2e,umask=0x41",
        "├── resctrl: not mounted",
        "├── mitigations: off",
        "└── cgroups: no cgroup2 tree is mounted",
    ]


def test_resctrl_where_it_is_mounted(tmp_path: Path) -> None:
    node = Node(tmp_path, "0")
    root = Path("/r")
    topology = node_topology(node)
    resctrl = msgspec.structs.replace(
        topology.resctrl,
        state="mounted",
        mount_point=str(root),
        num_closids=8,
        num_rmids=232,
        mon_features=["llc_occupancy"],
        l3_ids=[0, 4],
        control_groups=["BestEffort"],
        monitoring_groups=2,
    )
    lines = printed(msgspec.structs.replace(topology, resctrl=resctrl), width=200)
    assert (
        "├── resctrl: at /r, 8 CLOSIDs, 232 RMIDs, L3 ids 0 4, llc_occupancy, 1 control group, 2 monitoring groups"
        in lines
    )


@pytest.mark.parametrize(
    "make", [sub_numa_clusters, many_caches, two_sockets_of_two_dies, one_cache_across_nodes, hybrid]
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_real_machines_need_one_line_a_part_in_80_columns(
    tmp_path: Path, make: Callable[[Path], Node], encoding: str
) -> None:
    topology = node_topology(make(tmp_path))
    lines = printed(topology, encoding=encoding)
    assert all(len(line) <= 80 for line in lines)
    assert len(lines) == len(printed(topology, width=1000, encoding=encoding))
    assert "".join(lines).isascii() == (encoding == "ascii")


def test_long_lists_are_wrapped_not_cut(tmp_path: Path) -> None:
    cpus = ",".join(map(str, range(0, 256, 2)))
    node = Node(tmp_path, "0-255")
    node.groups("package_cpus_list", "physical_package_id", [cpus, ",".join(map(str, range(1, 256, 2)))])
    lines = printed(node_topology(node))
    assert all(len(line) <= 80 for line in lines)
    assert cpus in "".join(line.strip(" │├└─") for line in lines)


# Each example writes a tree of files, which takes as long as the disk likes.
@settings(max_examples=50)
@given(text=st.text(min_size=1, max_size=60))
def test_hostile_names_are_plain_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    node = Node(tmp_path_factory.mktemp("node"), "0")
    node.cpuinfo(f"model name: x{text}\n")
    node.write_sys("class/dmi/id/sys_vendor", f"x{text}")
    node.write("cpu/cpufreq/policy0/affected_cpus", 0)
    node.write("cpu/cpufreq/policy0/scaling_governor", f"[red]{text}")
    for encoding in ("utf-8", "ascii"):
        lines = printed(node_topology(node), width=1000, encoding=encoding)
        assert all(line.isprintable() for line in lines)
        assert any("governor [red]" in line for line in lines)


def tracer(*arguments: str, command: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    unchanged = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    return subprocess.run(
        [*command, *TRACER, *arguments],
        capture_output=True,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        env=unchanged | environment,
    )


def test_this_node() -> None:
    finished = tracer()
    assert (finished.returncode, finished.stderr) == (0, "")
    lines = finished.stdout.splitlines()
    system = os.uname()
    assert lines[0] == f"{system.nodename}: Linux {system.release}, {system.machine}"
    assert any(f"  CPUs {format_cpu_list(online_cpus())}" in line for line in lines)


def test_this_node_as_json_under_any_locale() -> None:
    finished = tracer("--json", PYTHONIOENCODING="ascii")
    assert (finished.returncode, finished.stderr) == (0, "")
    found = answer_of("topology", finished.stdout)
    assert found["host"]["kernel_release"] == os.uname().release
    topology = msgspec.convert(found["topology"], type=NodeTopology)
    assert topology.online == format_cpu_list(online_cpus())
    assert found["topology"].keys() == {field.name for field in msgspec.structs.fields(NodeTopology)}


@pytest.mark.root
def test_no_cgroup2_tree_and_no_sysfs_are_no_traceback() -> None:
    without_cgroup2 = tracer(command=("unshare", "-m", "sh", "-ec", 'umount -a -l -t cgroup2; exec "$@"', "sh"))
    assert "cgroups: no cgroup2 tree is mounted" in without_cgroup2.stdout
    without_sysfs = tracer(command=("unshare", "-m", "sh", "-ec", 'umount -l /sys; exec "$@"', "sh"))
    assert (without_sysfs.returncode, without_sysfs.stdout) == (3, "")
    assert without_sysfs.stderr.startswith("tracer: error: cannot read /sys/devices/system/cpu/possible: ")
    assert without_sysfs.stderr.count("\n") == 1


def test_other_commands_do_not_pay_for_it() -> None:
    heavy = {"tracer.pipeline.node", "tracer.cli.topology_tree"}
    program = f"import sys, tracer.cli.main; print(sorted({heavy} & set(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert finished.stdout == "[]\n"
