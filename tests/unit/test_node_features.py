# SPDX-License-Identifier: Apache-2.0
"""`tracer topology --nfd`: what a node has, as Node Feature Discovery's local source reads it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from sysfs_tree import Node, hybrid, many_caches, one_cache_across_nodes, sub_numa_clusters, two_sockets_of_two_dies

from tracer.kernel.counter_plan import STAYS_ZERO, CounterPlan, CpuPlan
from tracer.kernel.event_specs import COUNTER_COLUMNS, parse_events
from tracer.kernel.perf_events import HELD_BY_OTHERS
from tracer.kernel.topology import Topology
from tracer.preflight.node_features import PREFIX, Events, Feature, feature_file, judge_events, node_features

TRACER = [sys.executable, "-c", "from tracer.cli.main import main; main()", "topology"]
COUNTED = Events(dict.fromkeys(COUNTER_COLUMNS, True))
# Of labels: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
LABEL_PART = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
LONGEST_FILE = 65_536


def labels(text: str) -> dict[str, str]:
    """The labels of a feature file: lines of KEY=VALUE, comments, none of which is a directive (`# +…`)."""
    assert len(text) <= LONGEST_FILE
    assert not any(line.startswith("# +") for line in text.splitlines())
    assert text.endswith("\n")
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals
            assert key not in found
            found[key] = value
    for key, value in found.items():
        namespace, name = key.split("/")
        assert namespace == "feature.node.kubernetes.io"
        assert re.fullmatch(LABEL_PART, name)
        assert re.fullmatch(LABEL_PART, value)
    return {key.removeprefix(PREFIX): value for key, value in found.items()}


def features(topology: Topology, events: Events = COUNTED, *, has_cgroup2: bool = True) -> dict[str, Feature]:
    return node_features(topology, has_cgroup2=has_cgroup2, events=events)


@pytest.mark.parametrize(
    ("make", "domains"),
    [
        (sub_numa_clusters, "2"),
        (many_caches, "4"),
        (two_sockets_of_two_dies, "4"),
        (one_cache_across_nodes, "1"),
        (hybrid, "2"),
    ],
)
def test_caches_of_real_machines(tmp_path: Path, make: Callable[[Path], Node], domains: str) -> None:
    found = labels(feature_file(features(make(tmp_path).read())))
    assert found["llc-domains"] == domains
    assert found["pmu"] == ("true" if make is hybrid else "false")
    assert found["kernel-major"] == os.uname().release.split(".")[0]


def test_what_is_not_known_has_no_line(tmp_path: Path) -> None:
    found = labels(feature_file(features(Node(tmp_path, "0-3").read(), Events({"cycles": None}))))
    assert not {"llc-domains", "event-cycles", "resctrl-rmids", "resctrl-technology"} & found.keys()
    assert found["resctrl"] == "not-supported"
    assert found["resctrl-mbm-local"] == "false"


def test_monitoring_and_its_limits_where_resctrl_is_mounted(tmp_path: Path) -> None:
    node = Node(tmp_path, "0-3")
    node.cpuinfo("vendor_id: GenuineIntel\nflags: cqm_mbm_local\n")
    topology = node.read()
    resctrl = msgspec.structs.replace(
        topology.resctrl, state="mounted", num_closids=8, num_rmids=232, mon_features=["llc_occupancy"]
    )
    found = features(msgspec.structs.replace(topology, resctrl=resctrl))
    assert {name: value for name, value in found.items() if name.startswith("resctrl")} == {
        "resctrl": "mounted",
        "resctrl-technology": None if os.uname().machine == "aarch64" else "rdt",
        "resctrl-llc-occupancy": True,
        "resctrl-mbm-total": False,
        "resctrl-mbm-local": False,
        "resctrl-rmids": 232,
        "resctrl-closids": 8,
    } | ({"resctrl-technology": "mpam"} if os.uname().machine == "aarch64" else {})


def test_monitoring_by_the_processors_flags_where_it_is_not_mounted(tmp_path: Path) -> None:
    node = Node(tmp_path, "0-3")
    node.write_proc("filesystems", "nodev\tresctrl")
    without_flags = features(node.read())
    assert (without_flags["resctrl"], without_flags["resctrl-mbm-total"]) == ("not-mounted", None)
    node.cpuinfo("vendor_id: AuthenticAMD\nflags: cqm_llc cqm_occup_llc cqm_mbm_total\n")
    found = features(node.read())
    assert [found[f"resctrl-{name}"] for name in ("llc-occupancy", "mbm-total", "mbm-local")] == [True, True, False]


def test_no_cgroup2_tree(tmp_path: Path) -> None:
    topology = Node(tmp_path, "0").read()
    assert features(topology, has_cgroup2=False)["cgroup"] == "v1"
    assert features(topology)["cgroup"] in ("v2", "hybrid")


def test_an_event_counts_if_it_was_seen_to_and_may_count_where_that_was_not_tried() -> None:
    specs = parse_events(())
    plan = CounterPlan(
        specs,
        (STAYS_ZERO, HELD_BY_OTHERS, None),
        True,
        {cpu: CpuPlan(specs, (STAYS_ZERO, HELD_BY_OTHERS, None), True, (False,) * 3) for cpu in range(2)},
    )
    idle = judge_events(plan)
    assert idle.counts == {"cycles": False, "instructions": None, "llc_misses": None}
    assert [why.split(":")[0] for why in idle.unknown] == ["instructions", "cache-misses"]
    assert labels(feature_file({}, idle.unknown)) == {}
    one = plan.cpus[1]._replace(has_counted=(False, False, True))
    assert judge_events(plan._replace(cpus={0: plan.cpus[0], 1: one})).counts["llc_misses"] is True


def test_notes_are_comments_whatever_they_hold() -> None:
    assert labels(feature_file({"btf": True}, ("two\nlines=1\n# +no-label",))) == {"btf": "true"}


def run(*arguments: str | Path, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *TRACER, *arguments], capture_output=True, check=False, text=True)


def test_this_node_to_a_file_and_to_standard_output(tmp_path: Path) -> None:
    file = tmp_path / "features.d" / "tracer"
    missing = run("--nfd", file)
    assert missing.returncode == 4
    assert missing.stderr == f"tracer: error: cannot write '{file}': No such file or directory\n"
    file.parent.mkdir()
    file.write_text("old\n")
    done = run("--nfd", file)
    assert (done.returncode, done.stdout) == (0, "")
    # Nothing of a temporary name is there to be read as a second file.
    assert [entry.name for entry in file.parent.iterdir()] == ["tracer"]
    assert labels(file.read_text()).keys() > {"pmu", "btf", "cgroup", "resctrl", "kernel-major"}
    assert run("--nfd", "-").stdout == file.read_text()


def test_it_is_no_json() -> None:
    both = run("--nfd", "-", "--json")
    assert (both.returncode, both.stdout) == (2, "")
    assert both.stderr == "tracer: error: --nfd and --json: choose one of them\n"


@pytest.mark.root
def test_events_that_may_not_be_tried_are_not_known() -> None:
    root, other = run("--nfd", "-"), run("--nfd", "-", command=("setpriv", "--reuid=65534", "--clear-groups"))
    assert labels(root.stdout).keys() - labels(other.stdout).keys() >= {"event-cycles", "event-instructions"}
    assert "events were not tried: " in other.stdout
    assert "tracer: events were not tried: " in other.stderr
    assert other.returncode == 0
