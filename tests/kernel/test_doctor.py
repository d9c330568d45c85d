# SPDX-License-Identifier: Apache-2.0
"""The doctor on this node: as it is, without rights, and with parts of it hidden in a private mount namespace."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tracer.containers.cgroupfs import find_cgroup2_mount, parse_cgroup2_mounts
from tracer.kernel.counter_plan import plan_counters
from tracer.kernel.event_specs import COUNTER_COLUMNS, parse_events
from tracer.kernel.loader import programs_directory
from tracer.kernel.loader_process import SYSTEM_PACKAGES
from tracer.preflight.doctor import require_runnable, run_checks

pytestmark = pytest.mark.root

TICK_NS = 1_000_000
NOBODY = 65534
DOCTOR = (
    "import typer; from tracer.cli.doctor import doctor; app = typer.Typer(); app.command()(doctor); "
    "app(['--json'], prog_name='doctor')"
)
# Prints what a run would fail with, like the run: first the quick checks, then the load.
RUN = f"""
from tracer.errors import NodeUnsupportedError
from tracer.kernel.tick_load import TickLoad
from tracer.preflight.doctor import explain_load_failure, require_runnable
try:
    require_runnable({TICK_NS})
    load = TickLoad(tick_ns={TICK_NS}, counted=[False] * 3)
    try:
        load.result().close()
    except NodeUnsupportedError as error:
        raise explain_load_failure(error)
except NodeUnsupportedError as error:
    print(error)
"""
# The checkout may lie where only root can look, so the rights are dropped after the imports.
AS_NOBODY = (
    f"import os, tracer.cli.doctor; os.setgroups([]); "
    f"os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
)
BPF_AND_PERFMON = ["setpriv", "--inh-caps=-all", "--bounding-set=-all,+bpf,+perfmon,+dac_override"]


def execute(program: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run(
        [*command, sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True
    )
    assert finished.stderr == ""
    return finished


def examine(command: list[str], *, before: str = "") -> tuple[int, str, dict[str, dict[str, Any]]]:
    """Exit code, verdict and checks of a doctor started by `command`."""
    finished = execute(before + DOCTOR, command)
    report = json.loads(finished.stdout)
    return finished.returncode, report["verdict"], {check["id"]: check for check in report["checks"]}


def in_namespace(script: str, *arguments: str | Path) -> list[str]:
    """A command that runs the shell `script` with `arguments` in a mount namespace of its own, then what follows."""
    count = len(arguments)
    return ["unshare", "-m", "sh", "-ec", f'{script}\nshift {count}; exec "$@"', "sh", *map(str, arguments)]


def failed(checks: dict[str, dict[str, Any]]) -> list[str]:
    return [check_id for check_id, check in checks.items() if check["status"] == "failed"]


def assert_run_says_the_same(check: dict[str, Any], command: list[str]) -> None:
    assert execute(RUN, command).stdout == f"{check['found']}; {check['remedy']}\n"


@pytest.mark.core
def test_this_node_is_ready() -> None:
    code, verdict, checks = examine([])
    assert (code, failed(checks)) == (0, [])
    assert verdict in ("ready", "ready-with-limits")
    loaded = (
        "bcc-import",
        "bpf-load",
        "array-of-maps",
        "raw-tracepoint",
        "tick-program",
        "ring-buffer",
        "cgroup-events",
    )
    assert {checks[name]["status"] for name in loaded} == {"ok"}
    reasons = plan_counters(parse_events([])).reasons
    for column, reason in zip(COUNTER_COLUMNS, reasons, strict=True):
        assert checks[f"event-{column.replace('_', '-')}"]["status"] == ("ok" if reason is None else "warning")
    assert execute(RUN, []).stdout == ""


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open() -> None:
    before = open_files()
    checks = list(run_checks(None, parse_events(["cycles=software:cpu-clock"]), TICK_NS))
    require_runnable(TICK_NS)
    assert {check.id: check.status for check in checks}["event-cycles"] == "ok"
    assert open_files() == before


def test_two_capabilities_are_enough() -> None:
    _code, _verdict, checks = examine(BPF_AND_PERFMON)
    assert "CAP_BPF and CAP_PERFMON" in checks["privileges"]["found"]
    # At the levels that only Debian's and Ubuntu's kernels know, perf events take CAP_SYS_ADMIN.
    strict = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text()) > 2
    assert failed(checks) in ([], ["tick-event"] if strict else [])


def test_an_unprivileged_user_is_told_what_is_missing() -> None:
    code, verdict, checks = examine([], before=AS_NOBODY)
    assert (code, verdict) == (3, "cannot-run")
    assert "privileges" in failed(checks)
    assert {checks[name]["status"] for name in ("tick-event", "bpf-syscall", "bpf-load")} == {"skipped"}
    assert checks["bpf-syscall"]["found"] == "not checked: it needs privileges"
    assert checks["cgroup2"]["status"] == "ok"
    words = f"{checks['privileges']['found']}; {checks['privileges']['remedy']}\n"
    assert execute(AS_NOBODY + RUN, []).stdout == words


def test_root_of_a_user_namespace_is_not_enough() -> None:
    command = ["unshare", "--user", "--map-root-user"]
    code, _verdict, checks = examine(command)
    assert (code, failed(checks)) == (3, ["privileges"])
    assert_run_says_the_same(checks["privileges"], command)


def test_bcc_is_missing() -> None:
    command = in_namespace('mount -t tmpfs none "$1"', SYSTEM_PACKAGES)
    code, _verdict, checks = examine(command)
    assert (code, failed(checks)) == (3, ["bcc-import"])
    assert checks["bcc-import"]["remedy"] == "apt-get install python3-bpfcc"
    assert checks["bpf-load"]["status"] == "skipped"
    assert_run_says_the_same(checks["bcc-import"], command)


def test_programs_that_do_not_compile(tmp_path: Path) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("int tick(void *ctx) { return undeclared; }\n")
    command = in_namespace('mount --bind "$1" "$2"', broken, programs_directory() / "cgroup_ticks.c")
    code, _verdict, checks = examine(command)
    assert (code, failed(checks)) == (3, ["bpf-load"])
    assert "undeclared" in checks["bpf-load"]["found"]
    assert checks["raw-tracepoint"]["status"] == "skipped"
    assert_run_says_the_same(checks["bpf-load"], command)


def test_no_cgroup2_tree() -> None:
    command = in_namespace("umount -a -l -t cgroup2")
    code, _verdict, checks = examine(command)
    assert (code, failed(checks)) == (3, ["cgroup2"])
    assert_run_says_the_same(checks["cgroup2"], command)


def test_a_part_of_the_cgroup2_tree(tmp_path: Path) -> None:
    mounts = parse_cgroup2_mounts(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
    cgroup = find_cgroup2_mount() / f"tracer-test-{os.getpid()}"
    cgroup.mkdir()
    try:
        places = [mount.mount_point for mount in mounts]
        command = in_namespace(
            'mount --bind "$1" "$2"; umount -l ' + " ".join(f'"${number}"' for number in range(3, 3 + len(places))),
            cgroup, tmp_path, *places,
        )  # fmt: skip
        code, verdict, checks = examine(command)
    finally:
        cgroup.rmdir()
    assert (code, verdict) == (0, "ready-with-limits")
    assert checks["cgroup2"]["status"] == "warning"
    assert str(tmp_path) in checks["cgroup2"]["found"]


def test_tracefs_is_not_needed() -> None:
    code, _verdict, checks = examine(in_namespace("umount -a -l -t tracefs"))
    assert (code, checks["tracefs"]["status"], checks["raw-tracepoint"]["status"]) == (0, "info", "ok")
    assert checks["tracefs"]["found"].startswith("not mounted")
