# SPDX-License-Identifier: Apache-2.0
"""What is known of a node beside its CPUs: processor, frequency, PMUs, resctrl, memory, settings; and hostile files."""

import mmap
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sysfs_tree import Node

from tracer.kernel.event_specs import parse_event
from tracer.kernel.topology import Topology, llc_domain_of_cpu
from tracer.kernel.topology.files import harmless
from tracer.kernel.topology.frequency import FrequencyPolicy, highest_khz
from tracer.kernel.topology.memory import Memory
from tracer.kernel.topology.nesting import nest
from tracer.kernel.topology.pmu import PmuEvent, encodings, read_pmus
from tracer.kernel.topology.processor import Machine
from tracer.kernel.topology.resctrl import Resctrl
from tracer.kernel.topology.settings import KernelSettings

X86_CPUINFO = """\
processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 143
model name	: Intel(R) Xeon(R) Platinum 8480+
stepping	: 8
microcode	: 0x2b000461
flags		: fpu vme {flag}

processor	: 1
vendor_id	: SomethingElse
"""

ARM64_CPUINFO = """\
processor	: 0
BogoMIPS	: 243.75
Features	: fp asimd evtstrm
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x3
CPU part	: 0xd0c
CPU revision	: 1

"""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, "0-3")


def test_an_x86_processor(tmp_path: Path) -> None:
    node = Node(tmp_path, "0")
    node.cpuinfo(X86_CPUINFO.format(flag="sse2 cqm_llc constant_tsc"))
    assert msgspec.to_builtins(node.read().cpu_model) == {
        "vendor": "GenuineIntel",
        "family": 6,
        "model": 143,
        "stepping": 8,
        "name": "Intel(R) Xeon(R) Platinum 8480+",
        "microcode": "0x2b000461",
        "hypervisor": "none",
        "flags": ["constant_tsc", "cqm_llc"],
    }


def test_an_arm64_processor(tmp_path: Path) -> None:
    node = Node(tmp_path, "0")
    node.cpuinfo(ARM64_CPUINFO)
    assert msgspec.to_builtins(node.read().cpu_model) == {
        "vendor": "0x41",
        "family": 8,
        "model": 0xD0C,
        "stepping": 0x31,
        "name": None,
        "microcode": None,
        "hypervisor": None,
        "flags": None,
    }


@pytest.mark.parametrize(
    ("sources", "hypervisor"),
    [
        ("tsc kvm-clock acpi_pm", "kvm"),
        ("hyperv_clocksource_tsc_page acpi_pm", "hyperv"),
        ("tsc hpet acpi_pm", "unknown"),
    ],
)
def test_a_hypervisor_shows_by_its_clock(tmp_path: Path, sources: str, hypervisor: str) -> None:
    node = Node(tmp_path, "0")
    node.cpuinfo(X86_CPUINFO.format(flag="hypervisor"))
    node.write("clocksource/clocksource0/available_clocksource", sources)
    assert node.read().cpu_model.hypervisor == hypervisor


def test_xen_names_itself(tmp_path: Path) -> None:
    node = Node(tmp_path, "0")
    (node.sysfs / "hypervisor").mkdir()
    (node.sysfs / "hypervisor/type").write_text("xen\n")
    assert node.read().cpu_model.hypervisor == "xen"


def test_the_machine_has_no_serial_number(node: Node) -> None:
    for name, text in {"sys_vendor": "Example", "product_name": "E \x1b[2J", "product_serial": "secret"}.items():
        node.write_sys(f"class/dmi/id/{name}", text)
    assert node.read().machine == Machine("Example", "E \\x1b[2J")
    assert b"secret" not in msgspec.json.encode(node.read())


def frequency_policy(node: Node, number: int, cpus: str, **files: object) -> None:
    for name, value in {"affected_cpus": cpus, **files}.items():
        node.write(f"cpu/cpufreq/policy{number}/{name}", value)


def test_policies_that_say_the_same_are_one(node: Node) -> None:
    common = {"scaling_driver": "intel_pstate", "scaling_min_freq": 800000, "base_frequency": 2000000}
    for cpu, governor in enumerate(("performance", "powersave", "performance")):
        frequency_policy(node, cpu, str(cpu), scaling_governor=governor, scaling_max_freq=3800000, **common)
    # A policy whose CPUs are all offline.
    frequency_policy(node, 3, "", scaling_governor="performance")
    policy = FrequencyPolicy(
        cpus="0,2",
        driver="intel_pstate",
        governor="performance",
        min_khz=800_000,
        max_khz=3_800_000,
        hardware_min_khz=None,
        hardware_max_khz=None,
        base_khz=2_000_000,
        energy_preference=None,
    )
    other = msgspec.structs.replace(policy, cpus="1", governor="powersave")
    assert node.read().frequency_policies == [policy, other]


def test_a_policy_can_have_many_cpus(node: Node) -> None:
    frequency_policy(node, 0, "0 1 2 3", scaling_governor="schedutil")
    policies = node.read().frequency_policies
    assert policies is not None
    assert [(policy.cpus, policy.governor) for policy in policies] == [("0-3", "schedutil")]


@pytest.mark.parametrize(
    ("files", "turbo"),
    [
        ({}, None),
        ({"intel_pstate/no_turbo": 0}, True),
        ({"intel_pstate/no_turbo": 1, "cpufreq/boost": 1}, False),
        ({"cpufreq/boost": 1}, True),
        ({"cpufreq/boost": 0}, False),
    ],
)
def test_turbo(node: Node, files: dict[str, object], turbo: bool | None) -> None:
    for name, value in files.items():
        node.write(f"cpu/{name}", value)
    assert node.read().turbo is turbo


def test_isolated_and_tickless_cpus(node: Node) -> None:
    node.write("cpu/isolated", "2-3")
    # As kernels without any print it.
    node.write("cpu/nohz_full", "  (null)")
    topology = node.read()
    assert (topology.isolated, topology.nohz_full) == ("2-3", None)
    node.write("cpu/nohz_full", "3")
    assert node.read().nohz_full == "3"


def test_memory(node: Node) -> None:
    node.write_proc("meminfo", "MemTotal:       24684092 kB\nMemFree: 1 kB\nSwapTotal:             4 kB")
    node.write_sys("kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    assert node.read().memory == Memory(24_684_092 * 1024, 4096, mmap.PAGESIZE, "madvise")


def test_settings(node: Node) -> None:
    node.write_proc("sys/kernel/perf_event_paranoid", "-1")
    node.write_proc("sys/kernel/nmi_watchdog", "1")
    node.write_proc("cmdline", "root=/dev/vda mitigations=auto,nosmt secret=1")
    assert node.read().settings == KernelSettings(-1, True, "auto,nosmt")
    node.write_proc("cmdline", "nomitigations=1")
    assert node.read().settings.mitigations is None


def pmu_file(node: Node, path: str, text: str = "") -> None:
    node.write_sys(f"bus/event_source/devices/{path}", text)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["software/type", "tracepoint/type", "uncore_imc_0/cpumask"], []),
        (["cpu/type", "uncore_imc_0/cpumask", "msr/type"], ["cpu"]),
        (["cpu_core/cpus", "cpu_atom/cpus", "software/type"], ["cpu_atom", "cpu_core"]),
        (["armv8_pmuv3_0/cpus", "arm_spe_0/cpumask"], ["armv8_pmuv3_0"]),
    ],
)
def test_the_processors_own_pmus(node: Node, files: list[str], names: list[str]) -> None:
    for file in files:
        pmu_file(node, file)
    assert [pmu.name for pmu in read_pmus(node.sysfs)] == names


def test_no_sysfs_no_pmu(tmp_path: Path) -> None:
    assert read_pmus(tmp_path) == []


def test_cache_misses_are_what_the_processor_makes_of_them(node: Node) -> None:
    pmu_file(node, "cpu/type", "4")
    pmu_file(node, "cpu/events/cpu-cycles", "event=0x76")
    pmu_file(node, "cpu/events/cache-misses", "event=0x64,umask=0x09")
    pmu_file(node, "cpu/events/topdown-retiring", "event=0x00,umask=0x80")
    (pmu,) = node.read().pmus
    assert (pmu.type, pmu.cpus) == (4, None)
    assert pmu.events == {
        "cycles": PmuEvent("cpu-cycles", "event=0x76"),
        "cache-misses": PmuEvent("cache-misses", "event=0x64,umask=0x09"),
    }


def test_what_an_event_is_on_each_kind_of_core(node: Node) -> None:
    for name, cpus in (("armv8_cortex_a55", "0-1"), ("armv8_cortex_x1", "2-3")):
        pmu_file(node, f"{name}/cpus", cpus)
        pmu_file(node, f"{name}/events/l1d_cache_refill", "event=0x0003")
    pmus = node.read().pmus
    refill = PmuEvent("l1d_cache_refill", "event=0x0003")
    assert encodings(pmus, parse_event("llc_misses=cache-misses")) == {
        "armv8_cortex_a55": refill,
        "armv8_cortex_x1": refill,
    }
    assert encodings(pmus, parse_event("cycles=cpu-cycles")) == {}
    for spec in ("LLC-load-misses", "r3", "software:cpu-clock", "branches"):
        assert encodings(pmus, parse_event(f"llc_misses={spec}")) == {}


@pytest.fixture
def resctrl(node: Node) -> Path:
    """A mount at a place with a blank; Intel's cache allocation with CDP, and sub-NUMA clusters."""
    root = node.root / "res ctrl"
    mount_point = str(root).replace(" ", "\\040")
    node.write_proc("self/mounts", f"proc /proc proc rw 0 0\nresctrl {mount_point} resctrl rw,cdp 0 0")
    for path, text in {
        "info/L3CODE/num_closids": "8",
        "info/L3DATA/num_closids": "8",
        "info/MB/num_closids": "15",
        "info/L3_MON/num_rmids": "232",
        "info/L3_MON/mon_features": "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes",
        "info/L3_MON/max_threshold_occupancy": "65536",
        "info/L3_MON/mbm_assign_mode": "[mbm_event]\ndefault",
        "info/last_cmd_status": "ok",
        "mon_data/mon_L3_00/mon_sub_L3_00/llc_occupancy": "0",
        "mon_data/mon_L3_00/mon_sub_L3_01/llc_occupancy": "0",
        "mon_data/mon_L3_04/mon_sub_L3_04/llc_occupancy": "0",
        "mon_data/mon_L3_04/mon_sub_L3_05/llc_occupancy": "0",
        "mon_groups/one/tasks": "",
        "BestEffort/mon_groups/two/tasks": "",
        "BestEffort/mon_groups/three/tasks": "",
        "BestEffort/mon_data/mon_L3_00/llc_occupancy": "0",
        "tasks": "1",
    }.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


def test_limits_of_resctrl(node: Node, resctrl: Path) -> None:
    assert node.read().resctrl == Resctrl(
        state="mounted",
        mount_point=str(resctrl),
        options="rw,cdp",
        num_closids=8,
        num_rmids=232,
        mon_features=["llc_occupancy", "mbm_total_bytes", "mbm_local_bytes"],
        max_threshold_occupancy_bytes=65536,
        mbm_assign_mode="mbm_event",
        l3_ids=[0, 4],
        snc_nodes_per_l3=2,
        control_groups=["BestEffort"],
        monitoring_groups=3,
    )


def test_resctrl_without_monitoring(node: Node) -> None:
    root = node.root / "resctrl"
    (root / "info/L3").mkdir(parents=True)
    node.write_proc("self/mounts", f"resctrl {root} resctrl rw 0 0")
    assert node.read().resctrl == Resctrl(
        state="mounted", mount_point=str(root), options="rw", control_groups=[], monitoring_groups=0
    )


@pytest.mark.parametrize(
    ("file_systems", "state"), [("nodev\tresctrl\n\text4", "not mounted"), ("nodev\tproc", "not supported")]
)
def test_resctrl_that_is_not_mounted(node: Node, file_systems: str, state: str) -> None:
    node.write_proc("filesystems", file_systems)
    assert node.read().resctrl.state == state


def test_an_endless_file_is_not_read_to_its_end(node: Node) -> None:
    file = node.system / "cpu/smt/control"
    file.parent.mkdir()
    file.symlink_to("/dev/zero")
    assert node.read().smt_control == harmless("\0" * 200)


# Files that are read, but for the lists of possible and online CPUs, without which there is nothing to read.
FILES = [
    *(f"sys/devices/system/cpu/{name}" for name in ("present", "isolated", "nohz_full", "smt/active", "smt/control")),
    *(f"sys/devices/system/cpu/{name}" for name in ("intel_pstate/no_turbo", "cpufreq/boost")),
    *(
        f"sys/devices/system/cpu/cpu0/topology/{name}"
        for name in (
            "core_cpus_list",
            "core_id",
            "die_cpus_list",
            "die_id",
            "cluster_cpus_list",
            "cluster_id",
            "package_cpus_list",
            "physical_package_id",
        )
    ),
    *(
        f"sys/devices/system/cpu/cpu0/cache/index3/{name}"
        for name in ("level", "type", "size", "ways_of_associativity", "coherency_line_size", "id", "shared_cpu_list")
    ),
    *(
        f"sys/devices/system/cpu/cpufreq/policy0/{name}"
        for name in ("affected_cpus", "scaling_driver", "scaling_governor", "scaling_min_freq", "base_frequency")
    ),
    *(f"sys/devices/system/node/{name}" for name in ("online", "node0/meminfo", "node0/distance", "node0/cpulist")),
    "sys/devices/system/clocksource/clocksource0/available_clocksource",
    "sys/hypervisor/type",
    "sys/class/dmi/id/sys_vendor",
    "sys/kernel/mm/transparent_hugepage/enabled",
    *(f"sys/bus/event_source/devices/cpu/{name}" for name in ("type", "cpus", "events/cache-misses")),
    *(f"proc/{name}" for name in ("cpuinfo", "meminfo", "cmdline", "filesystems", "sys/kernel/perf_event_paranoid")),
]
RESCTRL_FILES = [
    *(f"info/L3_MON/{name}" for name in ("num_rmids", "mon_features", "max_threshold_occupancy", "mbm_assign_mode")),
    "info/L3/num_closids",
]
CONTENTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"0", b"1", b"-1", b"0-1", b"1-0", b"0-65535", b"99999999999999999999", b"(null)", b"0 1", b"[]"]),
)


# Each example writes a tree of files, which takes as long as the disk likes.
@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(FILES), CONTENTS), st.dictionaries(st.sampled_from(RESCTRL_FILES), CONTENTS))
def test_no_content_of_a_file_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes], resctrl_contents: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("node")
    node = Node(root, "0-1")
    node.caches(3, ["0-1"])
    node.groups("core_cpus_list", "core_id", ["0-1"])
    node.write_proc("self/mounts", f"resctrl {root}/resctrl resctrl rw 0 0")
    for name, content in [*contents.items(), *((f"resctrl/{name}", text) for name, text in resctrl_contents.items())]:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    topology = node.read()
    assert {0, 1} <= set(llc_domain_of_cpu(topology))
    encoded = msgspec.json.encode(topology)
    assert msgspec.json.decode(encoded, type=Topology) == topology
    assert encoded.decode().isprintable()
    assert nest(topology).cpus == {0, 1}


@given(st.text())
def test_hostile_names_become_harmless(text: str) -> None:
    name = harmless(text)
    assert name is None if not text else name is not None and name.isprintable()


def test_the_highest_frequency_is_told_only_where_it_is_one() -> None:
    policies = [
        FrequencyPolicy("0-1", "intel_pstate", None, None, None, None, 3_800_000, 2_000_000, None),
        FrequencyPolicy("2", "acpi-cpufreq", None, None, None, None, 2_900_000, None, None),
        FrequencyPolicy("3", None, None, None, None, None, None, None, None),
    ]
    assert highest_khz(policies, None) == {0: 3_800_000, 1: 3_800_000, 2: 2_900_000}
    assert highest_khz(policies, True) == {0: 3_800_000, 1: 3_800_000}
    assert highest_khz(policies, False) == {}
