# SPDX-License-Identifier: Apache-2.0
"""What container runtimes call their cgroups: the one table from which all patterns are made.

A row is a runtime, what one of its cgroups is, and each form in which the name of that is written: the last component
of a path, or its last two, with a placeholder for an id or a name. Of rows that fit the same path the upper one holds:
those with names are the last, so that no id is taken for a name. A runtime of None is one that the form alone does not
tell.

Prefixes become names as in the cgroup drivers of runc and crun; each runtime's own part is in its

    containerd  internal/cri and pkg/oci (`/<namespace>/<id>` unless told otherwise); nerdctl's pkg/cmd/container
    CRI-O       internal/config/cgmgr
    Docker      daemon/oci_linux.go, for the steps of a build daemon/command/daemon_unix.go
    BuildKit    executor/oci/spec.go
    podman      libpod/container_internal_linux.go, pod_internal_linux.go and oci_conmon_linux.go
    Kata        src/runtime/virtcontainers/sandbox.go, src/runtime-rs/crates/resource/src/cgroups
    ECS         the agent's agent/api/task/task_linux.go and agent/config/config_unix.go
    Nomad       client/lib/cgroupslib/editor.go and switch_linux.go, until 1.6 client/lib/cgutil
    LXC         src/lxc/cgroups/cgroup.h and cgfsng.c (LXD's and Incus' too); Proxmox' src/PVE/LXC.pm (pve-container)
    nspawn      systemd's src/machine/machine.c (machined makes the scope) and src/nspawn/nspawn-cgroup.c
    libvirt     src/util/virsystemd.c and vircgroup.c, src/hypervisor/domain_driver.c; https://libvirt.org/cgroups.html

gVisor takes the name that it is given: its containers look like those of the runtime above it. What `tracer demo`
makes (tracer/demo/scene.py) is as much of a container as its purpose needs; its name is its id.
"""

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Literal, NamedTuple

CgroupKind = Literal["container", "sandbox", "monitor", "pod", "qos", "unit", "mount", "other", "idle", "unknown"]
CgroupDriver = Literal["systemd", "cgroupfs"]
Tells = Literal["id", "name", "unit", "domain", "allocation"]
"""What a form has at its placeholder: an id, or a name as it is, in systemd's escapes, after libvirt's number of the
domain, or after the id of Nomad's allocation and a dot or, until 1.6, a dash."""


class Form(NamedTuple):
    """What a form tells. `driver` is None where it is the same with either."""

    runtime: str | None
    kind: CgroupKind
    driver: CgroupDriver | None
    tells: Tells = "id"


_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ALLOCATION = re.compile(_UUID)
_PLACEHOLDERS = {
    "{id}": "([0-9a-f]{64})",
    "{task}": f"([0-9a-f]{{32}}|{_UUID})",  # of ECS
    "{fargate}": "([0-9a-f]{32}-[0-9]{1,20})",
    "{name}": "([^/]+)",
    "{unit}": "([^/]+)",
    "{domain}": "([^/]+)",
    "{allocation}": rf"({_UUID}[.-][^/]+)",
    "{nomad}": "(?:nomad|share|reserve|reserved)",
    "{nomad.slice}": r"(?:nomad|share|reserve)\.slice",
    "{step}": "([0-9a-z]{25})",  # of a build (BuildKit's identity.NewID())
    "{demo}": "(demo-(?:service|hog))",
    "{tracer-demo}": "tracer-demo-[0-9a-f]{8}",
    "{any}": "[^/:]*",
    "{slice}": r"[^/:]*\.slice",
    "{parent-}": "(?:[^/:]+-)?",
}


def _prefixed(prefix: str, number: str = "{id}") -> tuple[str, str, str]:
    """With systemd, with cgroupfs, and with cgroupfs where a path for systemd is taken for a directory's name."""
    return f"{prefix}-{number}.scope", f"{prefix}-{number}", f"{{any}}:{prefix}:{number}"


# podman splits the cgroup of a unit itself, whichever driver it has for its others.
_PAYLOAD = "libpod-payload-{id}"
_DEMO = "{tracer-demo}/{demo}"
# Nomad makes these itself, whatever they are called.
_TASK = "{nomad.slice}/{allocation}.scope"
_MACHINE = "{slice}/machine-{unit}.scope"
_NSPAWN = "systemd-nspawn@{unit}.service"


def _libvirt(driver: str) -> tuple[str, ...]:
    """With systemd, without it, and without it before libvirt 1.3 numbered the domains."""
    return (
        rf"machine-{driver}\x2d{{domain}}.scope",
        f"{driver}-{{domain}}.libvirt-{driver}",
        f"{{domain}}.libvirt-{driver}",
    )


_TABLE: tuple[tuple[str | None, CgroupKind, tuple[str, ...]], ...] = (
    ("containerd", "container", (*_prefixed("cri-containerd"), *_prefixed("nerdctl"), "k8s.io/{id}")),
    ("cri-o", "sandbox", ("{slice}/crio-{id}",)),
    ("cri-o", "container", _prefixed("crio")),
    ("cri-o", "monitor", _prefixed("crio-conmon")),
    ("docker", "container", (*_prefixed("docker"), *_prefixed("docker", "{step}"), "docker/{id}", "docker/kata_{id}")),
    ("buildkit", "container", ("buildkit/{step}",)),
    ("podman", "container", (*_prefixed("libpod"), _PAYLOAD)),
    ("podman", "monitor", _prefixed("libpod-conmon")),
    ("podman", "pod", ("{parent-}libpod_pod_{id}.slice", "libpod_parent/{id}")),
    ("tracer", "container", (_DEMO,)),
    # A pod's virtual machine, and those of its threads that the pod's limits spare.
    (None, "sandbox", ("kata_{id}", "kata_sandboxed_pod/{id}")),
    (None, "monitor", ("kata_overhead/{id}", "kata-overhead.slice/runtime-rs-{id}.scope")),
    (None, "pod", ("ecstasks-{task}.slice", "ecs/{task}")),
    ("containerd", "container", ("{fargate}",)),
    (None, "container", ("{id}",)),
    ("nomad", "container", (_TASK, "{nomad}/{allocation}")),
    ("lxc", "container", ("lxc.payload.{name}", "lxc.payload/{name}", "lxc/{name}")),
    ("lxc", "monitor", ("lxc.monitor.{name}", "lxc.monitor/{name}")),
    # Virtual machines but for libvirt's LXC.
    ("qemu", "container", _libvirt("qemu")),
    ("cloud-hypervisor", "container", _libvirt("ch")),
    ("libvirt-lxc", "container", _libvirt("lxc")),
    ("systemd-nspawn", "monitor", (f"{_NSPAWN}/supervisor", "machine-{unit}.scope/supervisor")),
    ("systemd-nspawn", "container", (_NSPAWN, _MACHINE)),
)


def match_form(parent: str, name: str) -> tuple[Form, str] | None:
    """The form of the cgroup `name` below `parent` and the id or name in it; None if no runtime calls a cgroup so."""
    match = _PATTERN.fullmatch(f"{parent}/{name}")
    if match is None or match.lastindex is None:
        return None
    # Each form is a group with one other in it, and the outer one ends last.
    return _FORMS[match.lastindex], match[match.lastindex + 1]


def match_pod(parent: str, name: str) -> str | None:
    """The id of what groups containers, in the name of the cgroup `name` below `parent`; None if there is none.

    That is podman's pod, ECS' task or Nomad's allocation; pods of Kubernetes are no runtime's.
    """
    match = _POD_PATTERN.fullmatch(f"{parent}/{name}")
    if match is None or match.lastindex is None:
        return None
    found = match[match.lastindex + 1]
    uuid = _ALLOCATION.match(found)
    return found if uuid is None else uuid[0]


def _driver(form: str) -> CgroupDriver | None:
    if form in (_PAYLOAD, _DEMO):
        return None
    is_of_systemd = form.endswith((".scope", ".slice", ".service")) or form.startswith("{slice}")
    return "systemd" if is_of_systemd and form != _TASK else "cgroupfs"


def _tells(form: str) -> Tells:
    told: tuple[Tells, ...] = ("name", "unit", "domain", "allocation")
    return next((one for one in told if f"{{{one}}}" in form), "id")


def _expression(form: str) -> str:
    parts = re.split(r"(\{[^}]+\})", form)
    return "(" + "".join(_PLACEHOLDERS.get(part) or re.escape(part) for part in parts) + ")"


def _compile(forms: Iterable[str]) -> re.Pattern[str]:
    """The first that fits holds. Neighbours of one component share what is before it, which is looked at once."""
    alternatives = []
    for has_parent, neighbours in groupby(forms, key=lambda form: "/" in form):
        expressions = "|".join(map(_expression, neighbours))
        alternatives.append(expressions if has_parent else f"[^/]*/(?:{expressions})")
    return re.compile("|".join(alternatives))


_ROWS = [(form, Form(runtime, kind, _driver(form), _tells(form))) for runtime, kind, forms in _TABLE for form in forms]
_PATTERN = _compile(form for form, _row in _ROWS)
_POD_PATTERN = _compile(form for form, row in _ROWS if row.kind == "pod" or row.tells == "allocation")
_FORMS = {1 + 2 * number: row for number, (_form, row) in enumerate(_ROWS)}
