# SPDX-License-Identifier: Apache-2.0
"""One mould for what all commands print with `--json`."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from json_answers import answer_of

from tracer.cli.answers import ANSWERS
from tracer.cli.json_output import print_answer
from tracer.cli.verify_text import print_plan
from tracer.containers.census import CountedCgroup
from tracer.containers.identity import identify
from tracer.experiment.cgroup_control import Control
from tracer.experiment.experiment import Experiment
from tracer.experiment.naming import Place
from tracer.experiment.schedule import draw_schedule
from tracer.store.schemas import IDENTITY

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
ID, UID = "0123456789abcdef" * 4, "3ac633f6-8235-4007-81c7-0c55a16e7ae8"
COLUMNS = [field.name for field in IDENTITY]


class Odd(msgspec.Struct, kw_only=True):
    command: str = "odd"
    version: int = 1
    value: Any


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (math.nan, None),
        ({"low": [1.5, -math.inf]}, {"low": [1.5, None]}),
        ("caf\u00e9 \U0001f600\x1b", "caf\u00e9 \U0001f600\x1b"),
        ("dir\udcff", "dir\\xff"),
        (2**63 + 1, 2**63 + 1),
        (datetime(2026, 11, 22, 14, 2, 3, 60, UTC), "2026-11-22T14:02:03.000060Z"),
    ],
)
def test_it_is_json_for_every_reader(value: Any, printed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    print_answer(Odd(value=value))
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {"command": "odd", "version": 1, "value": printed}


@pytest.mark.parametrize("command", ANSWERS)
def test_each_schema_says_which_command_and_version_and_who(command: str) -> None:
    schema = json.loads((SCHEMAS / f"{command}.json").read_text())
    for answer in ANSWERS[command]:
        properties = schema["$defs"][answer.__name__]["properties"]
        assert list(properties)[:2] == ["command", "version"]
        assert properties["command"] == {"enum": [command]}
        assert isinstance(properties["version"]["const"], int)
    for name, definition in schema["$defs"].items():
        assert set(definition["required"]) == set(definition["properties"])
        # Who has one of the names has all of the identity.
        if {"cgroup_id", "cgroup_kind", "container_name"} & definition["properties"].keys():
            assert set(COLUMNS) <= definition["properties"].keys(), name


def test_a_plan_says_who_is_who(capsys: pytest.CaptureFixture[str]) -> None:
    paths = (f"/kubepods/burstable/pod{UID}/{ID}", "/batch.slice/job.service")
    victim, suspect = (
        Place(CountedCgroup(number, path, 1, identify(path), "path", None, None), path, Path("/x"))
        for number, path in enumerate(paths, 7)
    )
    schedule = draw_schedule(
        duration_ns=10**10, pulse_ns=5 * 10**7, duty=0.1, tick_ns=10**6, generator=np.random.default_rng(1)
    )
    experiment = Experiment(victim, suspect, Control("cpu.max", "max 100000", "1000 100000"), schedule, 1, ())
    print_plan(experiment, None, as_json=True)
    told = answer_of("verify", capsys.readouterr().out)
    assert told["dry_run"] is True
    assert {name: told["victim"][name] for name in ("cgroup_id", "container_id", "pod_uid", "qos_class")} == {
        "cgroup_id": 7, "container_id": ID, "pod_uid": UID, "qos_class": "burstable",
    }  # fmt: skip
    assert told["suspect"].keys() == {"name", *COLUMNS}
    assert told["control"] == {"file": "cpu.max", "found": "max 100000", "paused": "1000 100000"}
    assert told["processes"] is None
