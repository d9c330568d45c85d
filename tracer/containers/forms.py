# SPDX-License-Identifier: Apache-2.0
"""What container runtimes call their cgroups: the one table from which all patterns are made.

A row is a runtime, what one of its cgroups is, and each form in which the name of that is written: the last component
of a path, or its last two, with a placeholder for an id. Of rows that fit the same path the upper one holds. A runtime
of None is one that the form alone does not tell.

Prefixes become names as in the cgroup drivers of runc and crun; each runtime's own part is in its

    containerd  internal/cri and pkg/oci (`/<namespace>/<id>` unless told otherwise); nerdctl's pkg/cmd/container
    CRI-O       internal/config/cgmgr
    Docker      daemon/oci_linux.go, for the steps of a build daemon/command/daemon_unix.go
    BuildKit    executor/oci/spec.go
    podman      libpod/container_internal_linux.go, pod_internal_linux.go and oci_conmon_linux.go
    Kata        src/runtime/virtcontainers/sandbox.go, src/runtime-rs/crates/resource/src/cgroups

gVisor takes the name that it is given: its containers look like those of the runtime above it. What `tracer demo`
makes (tracer/demo/scene.py) is as much of a container as its purpose needs; its name is its id.
"""

import re
from typing import Literal, NamedTuple

CgroupKind = Literal["container", "sandbox", "monitor", "pod", "qos", "unit", "mount", "other", "idle", "unknown"]
CgroupDriver = Literal["systemd", "cgroupfs"]


class Form(NamedTuple):
    """What a form tells. `driver` is None where it is the same with either."""

    runtime: str | None
    kind: CgroupKind
    driver: CgroupDriver | None


_PLACEHOLDERS = {
    "{id}": "([0-9a-f]{64})",
    "{step}": "([0-9a-z]{25})",  # of a build (BuildKit's identity.NewID())
    "{demo}": "(demo-(?:service|hog))",
    "{tracer-demo}": "tracer-demo-[0-9a-f]{8}",
    "{any}": "[^/:]*",
    "{parent}": "[^/]*",
    "{slice}": r"[^/:]*\.slice",
    "{parent-}": "(?:[^/:]+-)?",
}


def _prefixed(prefix: str, number: str = "{id}") -> tuple[str, str, str]:
    """With systemd, with cgroupfs, and with cgroupfs where a path for systemd is taken for a directory's name."""
    return f"{prefix}-{number}.scope", f"{prefix}-{number}", f"{{any}}:{prefix}:{number}"


# podman splits the cgroup of a unit itself, whichever driver it has for its others.
_PAYLOAD = "libpod-payload-{id}"
_DEMO = "{tracer-demo}/{demo}"

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
    (None, "container", ("{id}",)),
)


def match_form(parent: str, name: str) -> tuple[Form, str] | None:
    """The form of the cgroup `name` below `parent` and the id in it; None if no runtime calls a cgroup so."""
    match = _PATTERN.fullmatch(f"{parent}/{name}")
    if match is None or match.lastindex is None:
        return None
    # Each form is a group with one other in it, and the outer one ends last.
    return _FORMS[match.lastindex], match[match.lastindex + 1]


def _driver(form: str) -> CgroupDriver | None:
    if form in (_PAYLOAD, _DEMO):
        return None
    return "systemd" if form.endswith((".scope", ".slice")) or form.startswith("{slice}") else "cgroupfs"


def _expression(form: str) -> str:
    parts = re.split(r"(\{[^}]+\})", form if "/" in form else f"{{parent}}/{form}")
    return "(" + "".join(_PLACEHOLDERS.get(part) or re.escape(part) for part in parts) + ")"


_ROWS = [(form, Form(runtime, kind, _driver(form))) for runtime, kind, forms in _TABLE for form in forms]
_PATTERN = re.compile("|".join(_expression(form) for form, _row in _ROWS))
_FORMS = {1 + 2 * number: row for number, (_form, row) in enumerate(_ROWS)}
