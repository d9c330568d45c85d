# SPDX-License-Identifier: Apache-2.0
"""The Helm chart and the plain manifest: helm finds nothing wrong, and what comes out is what Kubernetes knows.

No API server is asked: that a pod like this traces a node is tried in a guest, tests/guest/test_image.py.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tracer.cli.run import default_options
from tracer.cli.run_options import parse_options
from tracer.kernel.topology import read_topology
from tracer.preflight.node_features import Events, node_features
from tracer.preflight.rights import RIGHTS
from tracer.units import parse_bytes

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "tracer"
MANIFEST = ROOT / "deploy" / "kubernetes" / "tracer.yaml"
OLDEST, NEWEST = "1.27.0", "1.37.0"
# Of the operators that own them, which Kubernetes does not know.
FOREIGN = {"PodMonitor": "monitoring.coreos.com/v1", "SecurityContextConstraints": "security.openshift.io/v1"}
ALL = {
    "createNamespace": True,
    "image": {"tag": "7", "pullSecrets": [{"name": "key"}]},
    "options": {
        "processes": "10s",
        "ticks": True,
        "io": False,
        "event": ["cycles=cycles", "llc_misses=r412e"],
        "recorder": "10m",
        "when": ["wait(namespace=shop)>20% for 500ms", "steal>5%"],
    },
    "metrics": {"enabled": True, "podMonitor": {"enabled": True, "labels": {"team": "a"}}},
    "resctrl": {"enabled": True},
    "ingest": {"enabled": True, "hostPath": "/run/measured"},
    "upload": {"url": "s3://results/fleet", "secret": "credentials"},
    "serviceAccount": {"annotations": {"example.com/role": "writer"}},
    "runtimeState": ["/run/k3s/containerd"],
    "seLinuxOptions": {"type": "spc_t"},
    "appArmorProfile": {"type": "Unconfined"},
    "openshift": {"securityContextConstraints": True},
    "nodeFeatures": {"event-llc-misses": "true", "resctrl": "mounted"},
    "nodeSelector": {"pool": "a"},
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-node-critical",
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
}


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "scripts" / "helm", *arguments], capture_output=True, text=True, check=False)


def rendered(tmp_path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """By kind."""
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    done = helm("template", "node", CHART, "--namespace", "observing", "--values", file)
    assert done.returncode == 0, done.stderr
    return {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}


def pod_of(objects: dict[str, Any]) -> Any:
    return objects["DaemonSet"]["spec"]["template"]["spec"]


def container_of(objects: dict[str, Any]) -> Any:
    (container,) = pod_of(objects)["containers"]
    return container


def options_of(container: dict[str, Any]) -> dict[str, Any]:
    """What `tracer run` takes its arguments for; those of metrics are left to the tests of metrics."""
    command, *arguments = container["args"]
    assert command == "run"
    given = default_options()
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if name in ("event", "when"):
            given[name] = [*(given[name] or []), value]
        elif name != "metrics":
            assert name in given
            given[name] = value if equals else True
    return given


def test_helm_finds_nothing_wrong(tmp_path: Path) -> None:
    values = tmp_path / "values.json"
    values.write_text(json.dumps(ALL))
    for arguments in ((), ("--values", values)):
        done = helm("lint", "--strict", CHART, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "WARNING" not in done.stdout


def test_the_plain_manifest_is_the_charts() -> None:
    printed = subprocess.run([ROOT / "scripts" / "manifest"], capture_output=True, text=True, check=True).stdout
    assert MANIFEST.read_text() == printed, "run: make manifest"


@pytest.mark.parametrize("version", [OLDEST, "1.30.0", NEWEST])
@pytest.mark.parametrize("values", [{}, ALL], ids=["plain", "all"])
def test_kubernetes_knows_all_of_it(tmp_path: Path, values: dict[str, Any], version: str) -> None:
    objects = rendered(tmp_path, values)
    if version == OLDEST:
        # Older servers leave this field out, and say so.
        container_of(objects)["securityContext"].pop("appArmorProfile")
    for kind, one in objects.items():
        if kind in FOREIGN:
            assert one["apiVersion"] == FOREIGN[kind]
        else:
            kubernetes_validate.validate(one, version, strict=True)
    assert objects.keys() == {"ServiceAccount", "DaemonSet"} | (FOREIGN.keys() | {"Namespace"} if values else set())


def test_it_is_not_privileged_and_has_the_capabilities_of_its_options(tmp_path: Path) -> None:
    table = {name.removeprefix("CAP_") for right in RIGHTS for name in right.capability.names}
    few = container_of(rendered(tmp_path, {"options": {"nri": "off"}}))["securityContext"]
    assert few["capabilities"] == {"drop": ["ALL"], "add": ["BPF", "PERFMON", "DAC_READ_SEARCH"]}
    assert (few["privileged"], few["allowPrivilegeEscalation"], few["readOnlyRootFilesystem"]) == (False, False, True)
    assert few["seccompProfile"] == {"type": "RuntimeDefault"}
    objects = rendered(tmp_path, ALL)
    added = set(container_of(objects)["securityContext"]["capabilities"]["add"])
    assert added == {"BPF", "PERFMON", "DAC_READ_SEARCH", "SYS_NICE", "SYS_PTRACE", "DAC_OVERRIDE"} <= table
    constraints = objects["SecurityContextConstraints"]
    assert set(constraints["allowedCapabilities"]) == added
    assert constraints["users"] == ["system:serviceaccount:observing:node-tracer"]


def test_its_arguments_are_options_of_run(tmp_path: Path) -> None:
    container = container_of(rendered(tmp_path, {}))
    options = parse_options(options_of(container) | {"node-name": "node-7"})
    assert (options.resctrl, options.keep_bytes) == ("off", 1 << 30)
    assert parse_bytes(container["resources"]["limits"]["memory"] + "B") > options.memory_limit_bytes
    assert "cpu" not in container["resources"]["limits"]
    all_of_them = container_of(rendered(tmp_path, ALL))
    options = parse_options(options_of(all_of_them) | {"node-name": "node-7"})
    assert (options.ticks, options.io, options.resctrl) == (True, False, "auto")
    assert [event.text for event in options.events if event.column != "instructions"] == ["cycles", "r412e"]
    assert options.recorder is not None
    assert [*options.recorder.when] == ALL["options"]["when"]
    assert "--metrics=0.0.0.0:9464" in all_of_them["args"]
    assert options.ingest == Path("/ingest/dogstatsd.sock")
    assert {"name": "ingest", "mountPath": "/ingest"} in all_of_them["volumeMounts"]
    assert options.upload == "s3://results/fleet"
    assert all_of_them["envFrom"] == [{"secretRef": {"name": "credentials"}}]


def test_the_node_is_mounted_to_be_read_and_the_results_to_be_written(tmp_path: Path) -> None:
    for values in ({}, ALL):
        objects = rendered(tmp_path, values)
        mounts = container_of(objects)["volumeMounts"]
        writable = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
        assert writable == {"/results", "/tmp", "/run/tracer"} | ({"/sys/fs/resctrl", "/ingest"} if values else set())
        assert {mount["name"] for mount in mounts} == {volume["name"] for volume in pod_of(objects)["volumes"]}
        assert pod_of(objects)["hostPID"] is True


def test_probes_only_where_metrics_are_served(tmp_path: Path) -> None:
    assert not [name for name in container_of(rendered(tmp_path, {})) if "Probe" in name or name == "ports"]
    container = container_of(rendered(tmp_path, ALL))
    assert container["livenessProbe"]["httpGet"] == {"path": "/live", "port": "metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "metrics"}
    (port,) = container["ports"]
    assert port == {"name": "metrics", "containerPort": 9464}


def test_nodes_are_chosen_by_features_that_topology_finds(tmp_path: Path) -> None:
    selector = pod_of(rendered(tmp_path, ALL))["nodeSelector"]
    prefix = "feature.node.kubernetes.io/tracer-"
    chosen = {key.removeprefix(prefix): value for key, value in selector.items() if key.startswith(prefix)}
    assert chosen == ALL["nodeFeatures"]
    found = node_features(read_topology(), has_cgroup2=True, events=Events({"llc_misses": True}))
    assert chosen.keys() <= found.keys()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"resources": {"limits": {"memory": "1Gi", "cpu": "1"}}}, "cpu"),
        ({"resources": {"limits": {"memory": None}}}, "memory"),
        ({"options": {"output": "/x"}}, "output"),
        ({"options": {"window": 60}}, "window"),
        ({"result": {}}, "result"),
        ({"results": {"hostPath": "relative"}}, "hostPath"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"metrics": {"port": 0}}, "port"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    done = helm("template", "node", CHART, "--values", file)
    assert done.returncode != 0
    assert says in done.stderr
