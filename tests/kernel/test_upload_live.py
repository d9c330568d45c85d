# SPDX-License-Identifier: Apache-2.0
"""Live runs that upload into a directory: one that is killed, and the next one, which finds what that has left."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from live_node import Tracer
from upload_examples import all_periods, counts, rows_here, rows_there

pytestmark = pytest.mark.root


def test_what_a_killed_run_and_the_next_one_wrote_is_uploaded_whole(
    start_tracer: Callable[..., Tracer], tmp_path: Path
) -> None:
    output, target = tmp_path / "results", tmp_path / "store"
    options = ("--rotate", "1s", "--upload", f"file://{target}")
    killed = start_tracer(*options, output=output)
    killed.wait_until_tracing()
    until = time.monotonic() + 60
    # What uploads is the least of all for the scheduler.
    while (
        len(list(output.glob("windows/dt=*/identifier=*/*.parquet"))) < 2
        or not list(target.glob("runs/*/session.json"))
    ):  # fmt: skip
        assert killed.process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    # That it may write there is found out at once, not after the first hour.
    assert len(list(target.glob("runs/*/session.json"))) == 1
    assert all_periods(target) == []
    # What speaks with the network can do nothing that a user without rights cannot.
    for status in Path(f"/proc/{killed.process.pid}/task").glob("*/status"):
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if os.getpriority(os.PRIO_PROCESS, int(status.parent.name)) == 19:
            assert int(fields["CapEff"], 16) == 0
            break
    else:
        raise AssertionError("no thread uploads")
    killed.process.kill()
    killed.end()

    second = start_tracer(*options, "--duration", "3s", output=output)
    assert second.end() == 0, second.said
    assert f"tracer: uploaded to file://{target}: " in second.said
    assert "NOT UPLOADED" not in second.said
    there, here = rows_there(target), rows_here(output)
    assert counts(there) == counts(here)
    assert there == here
    assert counts(there)["windows"] > 0
    periods = all_periods(target)
    assert len({period.run_id for period in periods}) == 2
    assert all(period.complete and not period.lost for period in periods)
    for session in output.glob("runs/*/session.json"):
        assert (target / session.relative_to(output)).read_bytes() == session.read_bytes()


def test_a_store_that_refuses_is_told_at_once_and_the_run_goes_on(
    start_tracer: Callable[..., Tracer], tmp_path: Path
) -> None:
    output, target = tmp_path / "results", tmp_path / "store"
    target.write_text("no directory")
    tracer = start_tracer("--duration", "2s", "--upload", f"file://{target}", output=output)
    result = tracer.result()
    refused = f"results cannot be uploaded to file://{target} ("
    assert result.said.count(f"tracer: warning: {refused}") == 1
    assert any(refused in note for note in result.manifest.notes)
    assert "tracer: NOT UPLOADED: 5 files, " in result.said
    assert f"tracer upload {output} file://{target}" in result.said
    assert result.table("windows").height > 0
