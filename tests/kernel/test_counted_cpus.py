# SPDX-License-Identifier: Apache-2.0
"""Counters that only some CPUs have, or that do not count: on processors that are emulated by the answers of
perf_event_open(2) alone.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import polars as pl
import pytest
from emulated_pmus import VARIABLE, Answer, Processor
from live_node import SPIN, Cgroup, Result, Tracer

from tracer.kernel.counter_plan import STAYS_ZERO, plan_counters, plan_cpu
from tracer.kernel.cpus import format_cpu_list, online_cpus
from tracer.kernel.event_specs import parse_events
from tracer.pipeline.counter_check import HAS_NOT_COUNTED, HAS_STOPPED

pytestmark = pytest.mark.root

EMULATOR = str(Path(__file__).parents[1] / "emulated_pmus.py")
CYCLES, INSTRUCTIONS, CACHE_MISSES = (0, 0), (0, 1), (0, 3)
CLOCK, ZERO = "software:cpu-clock", "software:alignment-faults"
FIRST, LAST = online_cpus()[0], online_cpus()[-1]
HELD = "another user of the PMU, such as a hypervisor or a debugger, holds the counters (EBUSY)"
NO_PMU = "the node has no PMU that counts it (ENOENT)"


def processor(by_event: dict[tuple[int, int], str], **other_cpus: dict[tuple[int, int], str]) -> Processor:
    """The same answers on every CPU but those that are named, as `cpu1=…`."""
    answers = []
    for cpu in online_cpus():
        for (type_, config), answer in (by_event | other_cpus.get(f"cpu{cpu}", {})).items():
            answers.append(Answer(cpu, type_, config, answer))
    return Processor(answers)


def hybrid() -> Processor:
    """Half of the CPUs of each kind, the second without cache misses; nothing is counted without the PMU's type."""
    half = len(online_cpus()) // 2
    kinds = {"cpu_core": (4, online_cpus()[:half]), "cpu_atom": (10, online_cpus()[half:])}
    events = {CYCLES: CLOCK, INSTRUCTIONS: "software:task-clock", CACHE_MISSES: "software:context-switches"}
    answers = [
        Answer(cpu, 0, config | type_ << 32, software)
        for name, (type_, cpus) in kinds.items()
        for cpu in cpus
        for (_type, config), software in events.items()
        if name == "cpu_core" or config != CACHE_MISSES[1]
    ]
    raw = [Answer(cpu, type_, 0x412E, "software:context-switches") for type_, cpus in kinds.values() for cpu in cpus]
    pmus = [(name, type_, ",".join(map(str, cpus))) for name, (type_, cpus) in kinds.items()]
    return Processor(answers + raw, pmus)


@pytest.fixture
def start_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Tracer]]:
    """Starts tracers on an emulated processor."""
    started: list[Tracer] = []

    def start(emulated: Processor, *options: str) -> Tracer:
        monkeypatch.setenv(VARIABLE, msgspec.json.encode(emulated).decode())
        output = tmp_path / f"results{len(started)}"
        started.append(Tracer(output, "--ticks", "--nri", "off", *options, program=(EMULATOR,)))
        started[-1].wait_until_tracing()
        return started[-1]

    yield start
    for tracer in started:
        if tracer.process.poll() is None:
            tracer.process.kill()
        tracer.process.communicate()


def examine(emulated: Processor, *options: str) -> dict[str, dict[str, str]]:
    """Checks of the doctor by id."""
    environment = {VARIABLE: msgspec.json.encode(emulated).decode()}
    done = subprocess.run([sys.executable, EMULATOR, "doctor", "--json", *options], capture_output=True, text=True,
                          env=environment, check=False)  # fmt: skip
    return {check["id"]: check for check in json.loads(done.stdout)["checks"]}


def rows(result: Result, table: str, cgroup: Cgroup, cpu: int | None = None) -> pl.DataFrame:
    """A cgroup's rows, but for those in which it only waited for a CPU: nothing is counted in no time."""
    found = result.table(table).filter(pl.col("cgroup_id") == cgroup.id, pl.col("cpu_time_ns") > 0)
    return found if cpu is None else found.filter(pl.col("cpu") == cpu)


def on_cpus(result: Result, column: str) -> list[tuple[str, bool, str | None]]:
    (event,) = (event for event in result.manifest.events if event.column == column)
    return [(some.cpus, some.counted, some.reason_missing) for some in event.on_cpus]


def windows_of_one_cpu(result: Result, cgroup: Cgroup, cpu: int) -> pl.DataFrame:
    """A cgroup's windows in which it ran on no other CPU, by its ticks."""
    where = rows(result, "ticks", cgroup).group_by(pl.col("tick") // 60 * 60).agg(alone=(pl.col("cpu") == cpu).all())
    found = rows(result, "windows", cgroup).join(where.rename({"tick": "window_tick"}), on="window_tick")
    return found.filter("alone")


def spin_on(container: Cgroup, cpu: int) -> None:
    container.start(f"exec taskset -c {cpu} sh -c '{SPIN}'")


def test_each_kind_of_core_is_asked_for_its_own_events() -> None:
    with hybrid().emulated():
        plan = plan_counters(parse_events(["llc_misses=r412e"]))
    assert plan.counted == [True] * 3
    core, atom = plan.cpus[FIRST], plan.cpus[LAST]
    assert (core.pmu, [(event.type, event.config) for event in core.events]) == (
        "cpu_core",
        [(0, 0x4_0000_0000), (0, 0x4_0000_0001), (4, 0x412E)],
    )
    assert (atom.pmu, [(event.type, event.config) for event in atom.events]) == (
        "cpu_atom",
        [(0, 0xA_0000_0000), (0, 0xA_0000_0001), (10, 0x412E)],
    )


def test_a_kernel_that_knows_no_types_in_a_configuration_counts_all_the_same() -> None:
    """As Arm's before v6.6: an event of a CPU is that of the CPU's own PMU without it."""
    plain = processor({CYCLES: CLOCK, INSTRUCTIONS: CLOCK})
    plain = msgspec.structs.replace(
        plain, pmus=[("armv8_cortex_a53", 8, f"{FIRST}"), ("armv8_cortex_a72", 9, f"{LAST}")]
    )
    with plain.emulated():
        plan = plan_counters(parse_events([]))
    assert plan.counted == [True, True, False]
    assert [(event.type, event.config) for event in plan.cpus[LAST].events[:2]] == [CYCLES, INSTRUCTIONS]
    assert plan.reasons[2] == NO_PMU


def test_a_node_of_one_kind_is_asked_as_ever() -> None:
    one = msgspec.structs.replace(processor({CYCLES: CLOCK}), pmus=[("armv8_pmuv3_0", 8, "0-1")])
    with one.emulated():
        assert plan_cpu(FIRST, parse_events([])).events == parse_events([])


def test_every_cpu_is_tried() -> None:
    held = processor({CYCLES: CLOCK, INSTRUCTIONS: CLOCK}, **{f"cpu{FIRST}": {CYCLES: "EBUSY", INSTRUCTIONS: "EBUSY"}})
    with held.emulated():
        plan = plan_counters(parse_events([]))
    assert plan.counted == [True, True, False]
    assert [plan.cpus[cpu].reasons for cpu in (FIRST, LAST)] == [(HELD, HELD, NO_PMU), (None, None, NO_PMU)]


def test_a_counter_that_stays_0_is_found_before_the_run_if_it_cannot_be_one() -> None:
    with processor({CYCLES: CLOCK, INSTRUCTIONS: ZERO, CACHE_MISSES: ZERO}).emulated():
        plan = plan_counters(parse_events([]))
    # There may be no misses.
    assert plan.reasons == (None, STAYS_ZERO, None)
    assert [plan.cpus[FIRST].has_counted[index] for index in (0, 2)] == [True, False]


def test_cores_of_two_kinds(start_on: Callable[..., Tracer], new_container: Callable[[], Cgroup]) -> None:
    tracer = start_on(hybrid(), "--duration", "4s")
    here, there, both = new_container(), new_container(), new_container()
    spin_on(here, FIRST)
    spin_on(there, LAST)
    spin_on(both, FIRST)
    spin_on(both, LAST)
    result = tracer.result()
    for container in (here, there, both):
        container.stop()
    assert [event.counted for event in result.manifest.events] == [True] * 3
    assert on_cpus(result, "cycles") == [(f"{FIRST}", True, None), (f"{LAST}", True, None)]
    assert on_cpus(result, "llc_misses") == [(f"{FIRST}", True, None), (f"{LAST}", False, NO_PMU)]
    (note,) = (note for note in result.manifest.notes if "llc_misses" in note)
    assert note == f"llc_misses is null on CPUs {LAST}: cache-misses: {NO_PMU}"
    assert f"llc_misses on CPUs {LAST}: {NO_PMU}" in result.said

    ticks = rows(result, "ticks", both)
    assert ticks["cycles"].null_count() == ticks["instructions"].null_count() == 0
    by_cpu = dict(ticks.group_by("cpu").agg(pl.col("llc_misses").is_null().all()).iter_rows())
    assert by_cpu == {FIRST: False, LAST: True}
    # What has a value has all of it where that is so by the ticks: each shell begins on whatever CPU is free.
    for container, cpu in ((here, FIRST), (there, LAST)):
        alone = windows_of_one_cpu(result, container, cpu)
        assert alone.height > 20
        assert (alone["counter_coverage"] == 1).all()
        assert alone["llc_misses"].null_count() == (alone.height if cpu == LAST else 0)
    # Of the misses it is the share of time on the CPU that counts them.
    times = ticks.group_by(pl.col("tick") // 60 * 60).agg(
        share=pl.col("cpu_time_ns").filter(pl.col("cpu") == FIRST).sum() / pl.col("cpu_time_ns").sum()
    )
    # Of a CPU that was held up for long there is another row of the same window.
    found = rows(result, "windows", both).with_columns(
        covered=pl.when(pl.col("llc_misses").is_not_null()).then(pl.col("counter_coverage") * pl.col("cpu_time_ns"))
    )
    windows = found.group_by("window_tick").agg(pl.sum("covered", "cpu_time_ns"), told=pl.count("llc_misses") > 0)
    windows = windows.filter("told").join(times.rename({"tick": "window_tick"}), on="window_tick")
    assert windows.height > 20
    assert (windows["covered"] / windows["cpu_time_ns"] - windows["share"]).abs().max() < 1e-6
    # Whatever else runs on either CPU.
    assert windows["share"].is_between(0.1, 0.9).sum() > 10


def test_a_cpu_whose_counters_somebody_holds(
    start_on: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    """Cycles are those of the other CPU, and the coverage is the share of time on that one."""
    held = {CYCLES: "EBUSY", INSTRUCTIONS: "EBUSY"}
    tracer = start_on(processor({CYCLES: CLOCK, INSTRUCTIONS: CLOCK}, **{f"cpu{FIRST}": held}), "--duration", "4s")
    container = new_container()
    spin_on(container, FIRST)
    spin_on(container, LAST)
    result = tracer.result()
    container.stop()
    assert on_cpus(result, "cycles") == [(f"{FIRST}", False, HELD), (f"{LAST}", True, None)]
    assert (
        rows(result, "ticks", container, FIRST)["cycles"].null_count() == rows(result, "ticks", container, FIRST).height
    )
    windows = rows(result, "windows", container)
    counted_ns = rows(result, "ticks", container, LAST)["cpu_time_ns"].sum()
    assert windows["cycles"].sum() == pytest.approx(counted_ns, rel=0.01)
    covered_ns = (windows["counter_coverage"] * windows["cpu_time_ns"]).sum()
    assert covered_ns == pytest.approx(counted_ns, rel=1e-4)
    assert 0.2 < covered_ns / windows["cpu_time_ns"].sum() < 0.8
    assert windows["cpi_median"].mean() == pytest.approx(1, rel=0.01)
    checks = examine(processor({CYCLES: CLOCK, INSTRUCTIONS: CLOCK}, **{f"cpu{FIRST}": held}))
    assert checks["event-cycles"]["status"] == "warning"
    assert f"not on CPUs {FIRST}: {HELD}" in checks["event-cycles"]["found"]


def test_counters_that_stay_0_are_null(start_on: Callable[..., Tracer], new_container: Callable[[], Cgroup]) -> None:
    emulated = processor({CYCLES: CLOCK, INSTRUCTIONS: ZERO, CACHE_MISSES: ZERO})
    tracer = start_on(emulated, "--duration", "3s")
    container = new_container()
    container.start(SPIN)
    result = tracer.result()
    container.stop()
    for table in ("windows", "ticks"):
        found = result.table(table).filter(pl.col("cpu_time_ns") > 0)
        assert found["cycles"].null_count() == 0
        assert found["instructions"].null_count() == found["llc_misses"].null_count() == found.height
    assert (result.table("windows")["counter_coverage"] == 1).all()
    reasons = {event.column: event.reason_missing for event in result.manifest.events}
    assert reasons == {"cycles": None, "instructions": STAYS_ZERO, "llc_misses": HAS_NOT_COUNTED}
    assert f"llc_misses is null: cache-misses: {HAS_NOT_COUNTED}" in result.manifest.notes
    # Of one that is known not to count nothing is read at all.
    refused = result.manifest.totals.counter_values_refused
    assert refused == result.table("health")["counter_values_refused"].sum() > 0
    checks = examine(emulated)
    assert [checks[f"event-{name}"]["status"] for name in ("cycles", "instructions", "llc-misses")] == [
        "ok", "warning", "warning",
    ]  # fmt: skip
    assert "stays 0 while the CPU works" in checks["event-instructions"]["found"]
    assert "counted nothing in a short trial" in checks["event-llc-misses"]["found"]


def test_a_real_counter_that_stays_0_is_null(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    """Nothing is emulated: this processor has no alignment faults."""
    tracer = start_tracer("--ticks", "--duration", "3s", f"--event=cycles={ZERO}", f"--event=instructions={CLOCK}")
    tracer.wait_until_tracing()
    container = new_container()
    container.start(SPIN)
    result = tracer.result()
    container.stop()
    windows = result.table("windows").filter(pl.col("cpu_time_ns") > 0)
    assert windows["cycles"].null_count() == windows["cpi_median"].null_count() == windows.height
    assert windows["instructions"].null_count() == 0
    (event,) = (event for event in result.manifest.events if event.column == "cycles")
    assert (event.counted, event.reason_missing) == (False, HAS_NOT_COUNTED)


def test_a_counter_that_stops_is_null_from_then_on(
    start_on: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    """The emulated cycles are page faults: some as long as memory is touched, and then none."""
    emulated = processor({CYCLES: f"{CLOCK}, software:page-faults", CACHE_MISSES: "software:context-switches"})
    tracer = start_on(emulated, "--duration", "5s")
    container = new_container()
    container.start(f"""exec taskset -c {LAST} {sys.executable} -c '
import mmap, time
end = time.monotonic() + 1.5
while time.monotonic() < end:
    with mmap.mmap(-1, 1 << 20) as memory:
        for place in range(0, 1 << 20, 4096): memory[place] = 1
while True: pass'""")
    result = tracer.result()
    container.stop()
    ticks = rows(result, "ticks", container, LAST).sort("tick")
    full = ticks.filter(pl.col("cpu_time_ns") > 900_000)
    counted = full["cycles"].is_not_null()
    last = int(full["tick"].filter(counted).max())  # type: ignore[arg-type]
    after = ticks.filter(pl.col("tick") > last + 1)
    assert after.height > 500
    # But for what others of this CPU touch.
    assert after["cycles"].null_count() > 0.9 * after.height
    assert after["llc_misses"].null_count() == 0
    # No zero that is longer than one can be is left anywhere.
    assert ticks.filter((pl.col("cycles") == 0) & (pl.col("cpu_time_ns") >= 100_000)).is_empty()
    assert any(note.startswith("cycles did not count for a while on CPUs ") for note in result.manifest.notes)
    reasons = {cpu: why for cpu, _counted, why in on_cpus(result, "cycles")}
    assert HAS_STOPPED in reasons.values()


def test_counters_that_are_given_back_count_again(
    start_on: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    """Held by somebody on every CPU when the run begins, and not any more a second later."""
    given_back = f"EBUSY, {CLOCK}"
    container = new_container()
    container.start(SPIN)
    tracer = start_on(processor({CYCLES: given_back, INSTRUCTIONS: given_back}), "--duration", "5s")
    result = tracer.result()
    container.stop()
    assert f"cycles, instructions: {HELD}" in result.said
    notes = [note.split(": ", 1)[1] for note in result.manifest.notes if note.endswith("again")]
    assert notes == [f"CPU {cpu} counts cycles, instructions again" for cpu in online_cpus()]
    assert (
        on_cpus(result, "cycles") == on_cpus(result, "instructions") == [(format_cpu_list(online_cpus()), True, None)]
    )
    windows = rows(result, "windows", container).sort("window_tick")
    assert windows["cycles"][0] is None
    # From then on all is counted: each nanosecond of the emulated cycles.
    counted = windows[-10:]
    assert counted["cycles"].null_count() == counted["instructions"].null_count() == 0
    assert counted["cycles"].sum() == pytest.approx(counted["cpu_time_ns"].sum(), rel=0.01)
    assert result.manifest.totals.records_lost == result.manifest.totals.records_unaccounted == 0


def test_a_cpu_that_comes_online_without_its_counters(
    start_on: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    """Offline at the start, and held by somebody when it is back."""
    switch = Path(f"/sys/devices/system/cpu/cpu{LAST}/online")
    emulated = processor({CYCLES: CLOCK, INSTRUCTIONS: CLOCK}, **{f"cpu{LAST}": {CYCLES: "EBUSY", INSTRUCTIONS: CLOCK}})
    switch.write_text("0")
    try:
        tracer = start_on(emulated, "--duration", "6s")
        time.sleep(1)
        switch.write_text("1")
        container = new_container()
        spin_on(container, LAST)
        result = tracer.result()
        container.stop()
    finally:
        switch.write_text("1")
    notes = [note.split(": ", 1)[1] for note in result.manifest.notes if f"CPU {LAST} " in note]
    assert notes == [f"CPU {LAST} came online", f"CPU {LAST} does not count cycles: {HELD}"]
    assert (f"{LAST}", False, HELD) in on_cpus(result, "cycles")
    ticks = rows(result, "ticks", container, LAST)
    assert ticks.height > 100
    assert ticks["cycles"].null_count() == ticks.height
    # It ran before the tracer found it.
    assert ticks.sort("tick")["instructions"][-500:].null_count() == 0
    windows = windows_of_one_cpu(result, container, LAST)
    assert windows["cycles"].null_count() == windows.height > 20
