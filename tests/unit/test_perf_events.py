# SPDX-License-Identifier: Apache-2.0
"""Real events of the node the tests run on; software events are everywhere, a PMU is not."""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import NodeUnsupportedError, TracerError
from tracer.kernel.counter_plan import plan_counters, plan_cpu
from tracer.kernel.cpus import online_cpus
from tracer.kernel.event_specs import EventSpec, parse_event, parse_events
from tracer.kernel.perf_events import (
    CpuCounters,
    EventTimes,
    attach_program,
    coverage,
    enable,
    enable_in_phase,
    explain,
    open_counters,
    open_tick,
    read_times,
    wait_for_phase_ns,
)

TICK_NS = 1_000_000
CPU = online_cpus()[0]
IOC_DISABLE = 0x2401

needs_root = pytest.mark.root


def software(*names: str) -> tuple[EventSpec, ...]:
    return tuple(parse_event(f"cycles=software:{name}") for name in names)


def value(fd: int | None) -> int:
    assert fd is not None
    return int.from_bytes(os.read(fd, 24)[:8], "little")


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def node_has_pmu() -> bool:
    """A processor's PMU is called cpu, cpu_core, cpu_atom or armv8_...; breakpoint, msr and others are not one."""
    devices = Path("/sys/bus/event_source/devices")
    return any(device.name.startswith(("cpu", "armv")) for device in devices.iterdir())


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.001)


@pytest.fixture
def pinned() -> Iterator[None]:
    """The test runs on the CPU whose events it looks at."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CPU})
    yield
    os.sched_setaffinity(0, allowed)


@needs_root
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.usefixtures("pinned")
def test_events_of_several_pmus_all_count_from_the_start(grouped: bool) -> None:
    # cpu-clock, task-clock and the counting ones are three PMUs to the kernel.
    specs = software("cpu-clock", "context-switches", "page-faults", "task-clock")
    with open_counters(CPU, specs, grouped=grouped) as counters:
        assert counters.cpu == CPU
        assert counters.reasons == (None,) * 4
        before = [value(fd) for fd in counters.fds]
        time.sleep(0.002)
        with mmap.mmap(-1, mmap.PAGESIZE) as untouched:
            untouched[0] = 1
        after = [value(fd) for fd in counters.fds]
        times = counters.read_times()
    assert all(new > old for new, old in zip(after, before, strict=True))
    assert all(time is not None and time.running_ns == time.enabled_ns > 0 for time in times)


@needs_root
@pytest.mark.parametrize("grouped", [True, False])
def test_members_of_a_group_stop_with_their_leader(grouped: bool) -> None:
    with open_counters(CPU, software("cpu-clock", "context-switches"), grouped=grouped) as counters:
        leader, member = counters.fds
        assert leader is not None
        assert member is not None
        fcntl.ioctl(leader, IOC_DISABLE, 0)
        stopped = read_times(member)
        time.sleep(0.001)
        assert (read_times(member) == stopped) == grouped


@needs_root
def test_every_online_cpu_has_counters_of_its_own() -> None:
    opened = [open_counters(cpu, software("cpu-clock")) for cpu in online_cpus()]
    fds = [counters.fds[0] for counters in opened]
    assert None not in fds
    assert len(set(fds)) == len(opened)
    for counters in opened:
        counters.close()


def reasons_of(cpu: int, specs: Iterable[EventSpec]) -> tuple[str | None, ...]:
    with open_counters(cpu, specs) as counters:
        return counters.reasons


@needs_root
def test_hardware_events_open_where_there_is_a_pmu_and_say_why_not_elsewhere() -> None:
    cycles, instructions, _ = parse_events([])
    expected = None if node_has_pmu() else "the node has no PMU that counts it (ENOENT)"
    assert reasons_of(CPU, (cycles, instructions)) == (expected, expected)


@needs_root
def test_the_others_form_a_group_where_the_first_event_is_missing() -> None:
    nonsense = EventSpec("cycles", "nonsense", type=0, config=4095)
    with open_counters(CPU, (nonsense, *software("cpu-clock", "context-switches"))) as counters:
        missing, leader, member = counters.fds
        assert missing is None
        assert counters.reasons[0] is not None
        assert counters.reasons[1:] == (None, None)
        assert leader is not None
        assert member is not None
        fcntl.ioctl(leader, IOC_DISABLE, 0)
        assert read_times(member) == read_times(member)
        assert counters.read_times()[0] is None


@needs_root
def test_an_impossible_cpu_or_encoding_is_a_reason() -> None:
    (reason,) = reasons_of(1 << 20, software("cpu-clock"))
    assert reason == "the kernel refuses this encoding (EINVAL)"


@needs_root
def test_software_events_fit_together_and_count() -> None:
    specs = software("cpu-clock", "task-clock", "alignment-faults")
    plan = plan_counters(specs)
    assert plan.grouped
    assert sorted(plan.cpus) == online_cpus()
    # This processor has no alignment faults.
    assert {of_cpu.has_counted for of_cpu in plan.cpus.values()} == {(True, True, False)}
    assert plan_cpu(CPU, specs) == plan.cpus[CPU]


@needs_root
def test_what_is_left_out_keeps_its_place() -> None:
    first, second = software("cpu-clock", "task-clock")
    with open_counters(CPU, (None, first, None, second)) as counters:
        assert [fd is None for fd in counters.fds] == [True, False, True, False]
        assert counters.reasons == (None,) * 4
        assert [value is None for value in counters.read_values()] == [True, False, True, False]


@needs_root
def test_planning_leaves_no_descriptor_open() -> None:
    before = open_descriptors()
    plan_counters((*software("cpu-clock", "context-switches"), *parse_events([])))
    assert open_descriptors() == before


@needs_root
def test_closing_is_final_and_can_be_repeated() -> None:
    counters = open_counters(CPU, software("cpu-clock", "page-faults"))
    fds = counters.fds
    counters.close()
    counters.close()
    assert counters.fds == (None, None)
    assert counters.read_times() == (None, None)
    for fd in fds:
        assert fd is not None
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@needs_root
def test_a_full_descriptor_table_is_a_reason_and_leaks_nothing() -> None:
    probe = os.dup(0)
    os.close(probe)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + 1, hard))
    try:
        with open_counters(CPU, software("cpu-clock", "page-faults")) as counters:
            assert counters.fds[0] is not None
            assert counters.fds[1] is None
            assert counters.reasons[1] is not None
            assert f"only {probe + 1} files" in counters.reasons[1]
            assert "(EMFILE)" in counters.reasons[1]
            with pytest.raises(NodeUnsupportedError, match=r"tick of CPU .* \(EMFILE\)"):
                open_tick(CPU, TICK_NS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@needs_root
def test_without_capabilities_the_paranoid_level_decides() -> None:
    level = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    os.seteuid(65534)
    try:
        (reason,) = reasons_of(CPU, software("cpu-clock"))
    finally:
        os.seteuid(0)
    if level <= 0:
        assert reason is None
    else:
        assert reason is not None
        assert f"perf_event_paranoid ({level})" in reason
        assert reason.endswith("(EACCES)")


@needs_root
def test_a_tick_stands_still_until_it_is_enabled() -> None:
    fd = open_tick(CPU, TICK_NS)
    try:
        assert read_times(fd) == (0, 0)
        enable(fd)
        wait_until(lambda: read_times(fd).running_ns > TICK_NS)
    finally:
        os.close(fd)


@needs_root
def test_every_cpu_is_enabled_in_phase() -> None:
    fds = [open_tick(cpu, TICK_NS) for cpu in online_cpus()]
    try:
        enable_in_phase(fds, TICK_NS)
        assert all(read_times(fd).running_ns > 0 for fd in fds)
    finally:
        for fd in fds:
            os.close(fd)


@needs_root
def test_a_program_runs_at_the_tick() -> None:
    program, array = load_counting_program()
    fd = open_tick(CPU, TICK_NS)
    try:
        attach_program(fd, program)
        enable(fd)
        wait_until(lambda: array_element(array) >= 3)
        with pytest.raises(TracerError, match="cannot attach a BPF program to a perf event: File exists"):
            attach_program(fd, program)
    finally:
        for descriptor in (fd, program, array):
            os.close(descriptor)


@needs_root
def test_what_is_no_perf_event_is_one_clear_line() -> None:
    with Path("/dev/null").open() as null:
        for use in (enable, lambda fd: attach_program(fd, 0)):
            with pytest.raises(TracerError, match="Inappropriate ioctl"):
                use(null.fileno())
        assert read_times(null.fileno()) == (0, 0)
    closed = os.dup(0)
    os.close(closed)
    with pytest.raises(TracerError, match="cannot read a perf event"):
        read_times(closed)


def test_each_reason_ends_with_the_errno() -> None:
    codes = ("ENOENT", "EOPNOTSUPP", "EINVAL", "EACCES", "EPERM", "EBUSY", "EMFILE", "ENOSYS", "ENOMEM")
    reasons = [explain(OSError(getattr(errno, code), "as the C library says")) for code in codes]
    assert all(reason.endswith(f"({code})") for code, reason in zip(codes, reasons, strict=True))
    assert len(set(reasons)) == len(codes)
    assert reasons[-1] == "as the C library says (ENOMEM)"


@given(st.integers(0, 2**62), st.integers(10_000, 10**9))
def test_waiting_ends_at_a_multiple_of_the_tick_or_in_its_first_tenth(now_ns: int, tick_ns: int) -> None:
    wait_ns = wait_for_phase_ns(now_ns, tick_ns)
    assert 0 <= wait_ns <= tick_ns * 0.9
    if wait_ns:
        assert (now_ns + wait_ns) % tick_ns == 0
        assert now_ns % tick_ns >= tick_ns / 10
    else:
        assert now_ns % tick_ns < tick_ns / 10


@pytest.mark.parametrize(
    ("previous", "current", "expected"),
    [
        ((0, 0), (1000, 1000), 1.0),
        ((1000, 1000), (2000, 1250), 0.25),
        ((1000, 0), (2000, 0), 0.0),
        ((1000, 1000), (1000, 1000), None),
        ((2000, 1000), (1000, 2000), None),
        ((1000, 1000), (2000, 900), 0.0),
        ((1000, 1000), (2000, 2001), 1.0),
        ((1000, 1000), (0, 0), None),
    ],
)
def test_coverage(previous: tuple[int, int], current: tuple[int, int], expected: float | None) -> None:
    assert coverage(EventTimes(*previous), EventTimes(*current)) == expected


times = st.builds(EventTimes, st.integers(0, 2**63), st.integers(0, 2**63))


@given(times, times)
def test_coverage_is_a_share_or_unknown(previous: EventTimes, current: EventTimes) -> None:
    share = coverage(previous, current)
    assert share is None or 0.0 <= share <= 1.0


def test_counters_that_are_all_missing_need_no_care() -> None:
    with CpuCounters(0, [None, None], ["why", "why"]) as counters:
        assert counters.read_times() == (None, None)


BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]


def bpf(command: int, attribute: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attribute, 128)
    result = int(libc.syscall(BPF_SYSCALL, command, buffer, 128))
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result


def instruction(code: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """`struct bpf_insn` of include/uapi/linux/bpf.h."""
    registers = (source << 4 | destination).to_bytes(1, "little")
    return (
        code.to_bytes(1, "little")
        + registers
        + offset.to_bytes(2, "little", signed=True)
        + immediate.to_bytes(4, "little", signed=True)
    )


def load_counting_program() -> tuple[int, int]:
    """A perf event program that adds 1 to the only element of an array; returns both descriptors."""
    map_create, prog_load, array_type, perf_event_type = 0, 5, 2, 7
    array = bpf(map_create, b"".join(number.to_bytes(4, "little") for number in (array_type, 4, 8, 1)))
    code = b"".join(
        [
            instruction(0x62, destination=10, offset=-4),  # *(u32 *)(r10 - 4) = 0
            instruction(0xBF, destination=2, source=10),  # r2 = r10
            instruction(0x07, destination=2, immediate=-4),  # r2 += -4
            instruction(0x18, destination=1, source=1, immediate=array),  # r1 = the array
            instruction(0x00),
            instruction(0x85, immediate=1),  # call map_lookup_elem
            instruction(0x15, offset=2),  # if r0 == 0 goto +2
            instruction(0xB7, destination=1, immediate=1),  # r1 = 1
            instruction(0xDB, source=1),  # lock *(u64 *)(r0 + 0) += r1
            instruction(0xB7),  # r0 = 0
            instruction(0x95),  # exit
        ]
    )
    code_buffer = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    program = bpf(
        prog_load,
        perf_event_type.to_bytes(4, "little")
        + (len(code) // 8).to_bytes(4, "little")
        + ctypes.addressof(code_buffer).to_bytes(8, "little")
        + ctypes.addressof(licence).to_bytes(8, "little"),
    )
    return program, array


def array_element(array: int) -> int:
    map_lookup_elem = 1
    key, element = ctypes.c_uint32(0), ctypes.c_uint64(0)
    bpf(
        map_lookup_elem,
        array.to_bytes(8, "little")
        + ctypes.addressof(key).to_bytes(8, "little")
        + ctypes.addressof(element).to_bytes(8, "little"),
    )
    return element.value
