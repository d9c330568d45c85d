# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tracer.cli.run import default_options
from tracer.cli.run_options import parse_options
from tracer.errors import UsageError
from tracer.kernel.event_specs import parse_events
from tracer.pipeline.options import RunOptions
from tracer.pipeline.users import User

SECOND = 10**9


@pytest.mark.parametrize("text", ["640", "0600", "644", "604", "0640"])
def test_modes(text: str) -> None:
    assert parse_options(default_options() | {"mode": text}).mode == int(text, 8)


@pytest.mark.parametrize(
    "text", ["", "6", "400", "660", "646", "755", "1640", "0o640", "abc", "6 4", "640\n", "٦٤٠", "-640"]
)
def test_modes_that_let_others_write_or_the_owner_not(text: str) -> None:
    with pytest.raises(UsageError, match=r"--mode must be 600, 640, 644 or 604"):
        parse_options(default_options() | {"mode": text})


@pytest.mark.parametrize("text", ["666", "0660", "600"])
def test_modes_of_the_sockets_of_applications(text: str) -> None:
    assert parse_options(default_options() | {"ingest-mode": text}).ingest_mode == int(text, 8)


@pytest.mark.parametrize("text", ["", "777", "640", "0o666", "060"])
def test_modes_that_sockets_do_not_have(text: str) -> None:
    with pytest.raises(UsageError, match=r"--ingest-mode must be 600, 660 or 666"):
        parse_options(default_options() | {"ingest-mode": text})


@pytest.mark.parametrize("text", ["ingest.sock", "", "/a\0b", "/a\nb", "/" + "a" * 100])
def test_paths_that_no_socket_can_have(text: str) -> None:
    with pytest.raises(UsageError, match=r"--ingest must be the absolute path of a socket"):
        parse_options(default_options() | {"ingest": text})


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "n" * 254])
def test_names_that_no_node_has(name: str) -> None:
    with pytest.raises(UsageError, match=r"--node-name must be 1 to 253 printable characters"):
        parse_options(default_options() | {"node-name": name})


def test_the_nodes_name_is_the_hosts_unless_told_and_the_identifier_follows_it() -> None:
    host = parse_options(default_options())
    assert host.node_name == host.identifier == os.uname().nodename
    told = parse_options(default_options() | {"node-name": "node-7.example"})
    assert (told.node_name, told.identifier) == ("node-7.example", "node-7.example")


def test_a_run_that_is_another_users_mounts_nothing() -> None:
    with pytest.raises(UsageError, match=r"--resctrl-mount needs root to the end"):
        msgspec.structs.replace(GOOD, user=User(1, 1, (1,)), resctrl_mount=True).check()
    msgspec.structs.replace(GOOD, user=User(0, 0, (0,)), resctrl_mount=True).check()


GOOD = RunOptions(
    output=Path("results"), duration_ns=None, tick_ns=10**6, window_ticks=60, rotate_ns=90 * SECOND, keep_bytes=None,
    on_full="delete-oldest", sync=False, ticks=False, events=parse_events([]), identifier="node-1", ring_bytes=None,
    memory_limit_bytes=512 << 20, cpu_limit=None,
    nri_socket=None, containerd_states=(), resources_interval_ns=SECOND, io=False, processes_interval_ns=None,
    processes_max_rss_bytes=4 << 30, regions=False, resctrl="auto", resctrl_mount=False, waits=True,
)  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resctrl": "off"},
        {"resctrl": "/r"},
        {"resctrl_mount": True},
        {"resources_interval_ns": SECOND // 10},
        {"processes_interval_ns": SECOND, "regions": True, "io": True},
        {"tick_ns": 500_000},
        {"tick_ns": 777_000},
    ],
)
def test_good_options(changes: dict[str, Any]) -> None:
    msgspec.structs.replace(GOOD, **changes).check()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tick_ns": 1_000_001}, "--tick must be a whole number of microseconds"),
        ({"identifier": ""}, "the identifier must not be empty"),
        ({"memory_limit_bytes": (256 << 20) - 1}, "--memory-limit must be at least 256 MiB"),
        ({"cpu_limit": 0.009}, "--cpu-limit must be at least 1% of a core"),
        ({"resources_interval_ns": SECOND // 10 - 1}, "--resources-interval must be at least 100ms"),
        ({"processes_interval_ns": SECOND - 1}, "--processes must be at least 1s"),
        ({"regions": True}, "--regions needs --processes"),
        ({"resctrl": "here"}, "--resctrl must be auto, off or the absolute path"),
        ({"resctrl": ""}, "--resctrl must be auto, off or the absolute path"),
        ({"resctrl": "off", "resctrl_mount": True}, "--resctrl-mount needs --resctrl auto"),
        ({"resctrl": "/r", "resctrl_mount": True}, "--resctrl-mount needs --resctrl auto"),
    ],
)
def test_options_out_of_bounds(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        msgspec.structs.replace(GOOD, **changes).check()
