# SPDX-License-Identifier: Apache-2.0
"""The plug-in against a scripted runtime on a real socket, and its conversation alone against anything at all."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from nri_fake_runtime import (
    REGISTRATION,
    SECRETS,
    FakeRuntime,
    Reply,
    RuntimeConnection,
    container,
    frame,
    pod,
    registered,
    request,
    ttrpc,
)

from tracer.containers.nri import conversation, plugin
from tracer.containers.nri import messages_pb2 as messages
from tracer.containers.nri.conversation import Conversation
from tracer.containers.nri.decoding import MAX_SYNCHRONIZED
from tracer.containers.nri.events import ContainerSeen, Disconnected, Event, SandboxSeen, SynchronizedAll
from tracer.containers.nri.framing import MAX_DATA_BYTES, NriError
from tracer.containers.nri.plugin import NriPlugin, Status

_TIMEOUT_SECONDS = 20
NOW_NS = 123

POD = pod(1)
CONTAINER = container(1, POD)


def spoken(data: bytes, conversation: Conversation | None = None) -> list[bytes | Event | None]:
    """What a conversation makes of these bytes."""
    return list((conversation or Conversation()).receive(data, NOW_NS))


def sandbox_seen(action: str, of_pod: messages.PodSandbox = POD) -> SandboxSeen:
    return SandboxSeen(
        action=action,  # type: ignore[arg-type]
        time_ns=NOW_NS,
        sandbox_id=of_pod.id,
        pod_uid=of_pod.uid,
        pod_name=of_pod.name,
        namespace="shop",
        cgroups_path=of_pod.linux.cgroups_path,
        cgroup_parent=of_pod.linux.cgroup_parent,
        pid=of_pod.pid,
    )


def container_seen(
    action: str, of_pod: messages.PodSandbox = POD, told: messages.Container = CONTAINER, state: str = "created"
) -> ContainerSeen:
    return ContainerSeen(
        action=action,  # type: ignore[arg-type]
        time_ns=NOW_NS,
        container_id=told.id,
        container_name=told.name,
        pod_uid=of_pod.uid,
        pod_name=of_pod.name,
        namespace="shop",
        image=told.annotations["io.kubernetes.cri.image-name"],
        cgroups_path=told.linux.cgroups_path,
        cgroup_parent=of_pod.linux.cgroup_parent,
        pid=told.pid,
        state=state,  # type: ignore[arg-type]
    )


# The conversation alone


def test_golden_vectors() -> None:
    assert conversation.REGISTRATION == REGISTRATION
    assert spoken(request(1, "Configure")) == [bytes.fromhex("000000010000000f000000050000000102001203 10e50c")]
    assert spoken(request(3, "CreateContainer")) == [bytes.fromhex("000000010000000a0000000000000003 0200")]
    assert spoken(request(5, "NoSuchMethod")) == [
        bytes.fromhex("000000010000001d000000130000000502000a11080c120d756e696d706c656d656e746564")
    ]


def test_a_method_of_another_service_is_unimplemented() -> None:
    (reply,) = spoken(request(5, "StartContainer", service="some.other.Service"))
    assert reply == spoken(request(5, "NoSuchMethod"))[0]


@pytest.mark.parametrize(
    ("number", "method", "expected"),
    [
        (messages.RUN_POD_SANDBOX, "RunPodSandbox", sandbox_seen("started")),
        (messages.STOP_POD_SANDBOX, "StopPodSandbox", sandbox_seen("stopped")),
        (messages.REMOVE_POD_SANDBOX, "RemovePodSandbox", sandbox_seen("removed")),
        (messages.START_CONTAINER, "StartContainer", container_seen("started")),
        (messages.POST_START_CONTAINER, "PostStartContainer", container_seen("started")),
        (messages.STOP_CONTAINER, "StopContainer", container_seen("stopped")),
        (messages.REMOVE_CONTAINER, "RemoveContainer", container_seen("removed")),
    ],
)
def test_a_call_and_a_state_change_tell_the_same(number: messages.Event, method: str, expected: Event) -> None:
    call = messages.EventRequest(pod=POD, container=CONTAINER)
    change = messages.StateChangeEvent(event=number, pod=POD, container=CONTAINER)
    done = frame(1, ttrpc(7, 2, b""))
    assert spoken(request(7, method, call)) == [done, expected]
    assert spoken(request(7, "StateChange", change)) == [done, expected]


@pytest.mark.parametrize("number", [0, 4, 5, 8, 9, 12, 14, 10**6, -1])
def test_other_state_changes_are_answered_and_tell_nothing(number: int) -> None:
    change = messages.StateChangeEvent(event=number, pod=POD, container=CONTAINER)  # type: ignore[arg-type]
    assert spoken(request(7, "StateChange", change)) == [frame(1, ttrpc(7, 2, b""))]


def test_the_reply_comes_before_anything_else_is_done() -> None:
    outputs = Conversation().receive(request(1, "StartContainer", b"\xff" * 100), NOW_NS)
    assert next(outputs) == frame(1, ttrpc(1, 2, b""))
    assert list(outputs) == [None]


def test_arguments_environment_and_mounts_are_not_kept() -> None:
    call = messages.EventRequest(pod=POD, container=CONTAINER)
    sent = request(1, "StartContainer", call)
    assert all(secret.encode() in sent for secret in SECRETS)
    (_, event) = spoken(sent)
    assert all(secret not in repr(event) for secret in SECRETS)


@pytest.mark.parametrize(
    ("number", "state"), [(0, "unknown"), (1, "created"), (2, "paused"), (3, "running"), (4, "stopped"), (9, "unknown")]
)
def test_states(number: int, state: str) -> None:
    told = container(1, POD, state=number)
    told.state = number  # type: ignore[assignment]
    (_, event) = spoken(request(1, "StartContainer", messages.EventRequest(pod=POD, container=told)))
    assert event == container_seen("started", state=state)


def test_what_the_runtime_does_not_say_is_none() -> None:
    bare = messages.EventRequest(container=messages.Container(id="bare"))
    (_, event) = spoken(request(1, "StartContainer", bare))
    assert event == ContainerSeen(
        action="started",
        time_ns=NOW_NS,
        container_id="bare",
        container_name=None,
        pod_uid=None,
        pod_name=None,
        namespace=None,
        image=None,
        cgroups_path=None,
        cgroup_parent=None,
        pid=None,
        state="unknown",
    )


def test_the_image_is_from_the_field_else_from_an_annotation() -> None:
    def image(told: messages.Container) -> str | None:
        (_, event) = spoken(request(1, "StartContainer", messages.EventRequest(container=told)))
        assert isinstance(event, ContainerSeen)
        return event.image

    crio = {"io.kubernetes.cri-o.ImageName": "of-cri-o"}
    assert image(messages.Container(id="a", annotations=crio)) == "of-cri-o"
    both = container(1, POD, image=messages.ContainerImage(name="of-the-field"))
    assert image(both) == "of-the-field"
    both.image.name = "x" * 1025
    assert image(both) == "docker.io/library/image:1"


def classes(of_pod: messages.PodSandbox, told: messages.Container) -> tuple[str | None, str | None]:
    (_, event) = spoken(request(1, "StartContainer", messages.EventRequest(pod=of_pod, container=told)))
    assert isinstance(event, ContainerSeen)
    return event.rdt_class, event.blockio_class


def test_classes_are_those_set_else_the_containers_own_else_the_pods_for_it_else_the_pods() -> None:
    rdt, blockio = "rdt.resources.beta.kubernetes.io", "blockio.resources.beta.kubernetes.io"
    assert classes(POD, CONTAINER) == (None, None)
    of_pod = pod(1, annotations={f"{rdt}/pod": "bronze", f"{blockio}/pod": "slow", "password": "secret"})
    assert classes(of_pod, CONTAINER) == ("bronze", "slow")
    of_pod.annotations[f"{rdt}/container.{CONTAINER.name}"] = "silver"
    of_pod.annotations[f"{blockio}/container.another"] = "fast"
    assert classes(of_pod, CONTAINER) == ("silver", "slow")
    told = container(1, POD, annotations={"io.kubernetes.cri.rdt-class": "gold"})
    assert classes(of_pod, told) == ("gold", "slow")
    told.linux.resources.rdt_class.value = "platinum"
    told.linux.resources.blockio_class.value = "throttled"
    assert classes(of_pod, told) == ("platinum", "throttled")


def test_of_a_pods_annotations_only_those_of_classes_are_kept() -> None:
    rdt = "rdt.resources.beta.kubernetes.io"
    of_pod = pod(1, annotations={f"{rdt}/pod": "bronze", "password": "secret"})
    (_, event) = spoken(request(1, "RunPodSandbox", messages.EventRequest(pod=of_pod)))
    assert isinstance(event, SandboxSeen)
    assert event.class_annotations == {f"{rdt}/pod": "bronze"}
    many = pod(1, annotations={f"{rdt}/container.{number}": "x" for number in range(1000)})
    (_, event) = spoken(request(1, "RunPodSandbox", messages.EventRequest(pod=many)))
    assert isinstance(event, SandboxSeen)
    assert len(event.class_annotations) == 256


def test_a_pods_classes_reach_a_container_that_was_told_of_before_its_pod() -> None:
    of_pod = pod(1, annotations={"rdt.resources.beta.kubernetes.io/pod": "bronze"})
    talk = Conversation()
    spoken(request(1, "Synchronize", messages.SynchronizeRequest(containers=[CONTAINER], more=True)), talk)
    told = spoken(request(3, "Synchronize", messages.SynchronizeRequest(pods=[of_pod])), talk)
    assert [event.rdt_class for event in told if isinstance(event, ContainerSeen)] == ["bronze"]


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xff",
        b"",
        messages.EventRequest(pod=POD, container=messages.Container(name="without an id")).SerializeToString(),
        messages.EventRequest(pod=POD, container=messages.Container(id="x" * 129)).SerializeToString(),
        messages.EventRequest(pod=POD, container=CONTAINER).SerializeToString()[:-1],
    ],
)
def test_what_cannot_be_decoded_is_answered_and_counted(payload: bytes) -> None:
    assert spoken(request(9, "StartContainer", payload)) == [frame(1, ttrpc(9, 2, b"")), None]


def test_an_envelope_that_cannot_be_decoded_fails_nobodys_container() -> None:
    assert spoken(frame(1, ttrpc(9, 1, b"\xff\xff"))) == [frame(1, ttrpc(9, 2, b"")), None]


def test_a_name_that_is_too_long_costs_the_name_only() -> None:
    told = container(1, POD)
    told.name = "x" * 1025
    (_, event) = spoken(request(1, "StartContainer", messages.EventRequest(pod=POD, container=told)))
    assert isinstance(event, ContainerSeen)
    assert (event.container_name, event.pod_name) == (None, "pod-1")


def test_what_is_not_a_request_is_passed_over() -> None:
    start = messages.Request(service="nri.pkg.api.v1alpha1.Plugin", method="StartContainer").SerializeToString()
    for connection, message_type in [(1, 2), (1, 3), (1, 0), (2, 1), (2, 3), (3, 1), (0, 1)]:
        assert spoken(frame(connection, ttrpc(1, message_type, start))) == []


def synchronize(
    stream: int, pods: list[messages.PodSandbox], containers: list[messages.Container], more: bool
) -> bytes:
    return request(stream, "Synchronize", messages.SynchronizeRequest(pods=pods, containers=containers, more=more))


def test_parts_of_a_synchronisation_are_echoed_and_joined_at_the_end() -> None:
    pods = [pod(number) for number in range(3)]
    containers = [container(number, pods[2 - number]) for number in range(3)]
    talk = Conversation()
    more = frame(1, ttrpc(1, 2, b"\x12\x02\x10\x01"))
    assert spoken(synchronize(1, pods[:1], containers[:2], more=True), talk) == [more]
    assert spoken(synchronize(1, pods[1:2], containers[2:], more=True), talk) == [more]
    assert not talk.synchronized
    reply, *events = spoken(synchronize(5, pods[2:], [], more=False), talk)
    assert reply == frame(1, ttrpc(5, 2, b""))
    assert talk.synchronized
    assert events == [
        *(sandbox_seen("synchronized", each) for each in pods),
        *(container_seen("synchronized", pods[2 - number], containers[number]) for number in range(3)),
        SynchronizedAll(time_ns=NOW_NS, ids=frozenset(each.id for each in [*pods, *containers])),
    ]
    # The next one starts with nothing.
    assert spoken(synchronize(7, [], [], more=False), talk)[1:] == [SynchronizedAll(time_ns=NOW_NS, ids=frozenset())]


def test_a_container_whose_pod_is_not_told_of_keeps_its_own_name() -> None:
    (_, event, everything) = spoken(synchronize(1, [], [CONTAINER], more=False))
    assert isinstance(event, ContainerSeen)
    assert (event.container_name, event.pod_name) == ("container-1", None)
    assert everything == SynchronizedAll(time_ns=NOW_NS, ids=frozenset({CONTAINER.id}))


@pytest.mark.parametrize("rubbish", [b"\xff\xff", messages.SynchronizeRequest(pods=[messages.PodSandbox()])])
def test_after_a_lost_part_nothing_is_taken_for_gone(rubbish: object) -> None:
    talk = Conversation()
    spoken(synchronize(1, [POD], [CONTAINER], more=True), talk)
    assert spoken(request(3, "Synchronize", rubbish), talk) == [
        frame(1, ttrpc(3, 2, b"")),
        None,
        sandbox_seen("synchronized"),
        container_seen("synchronized"),
    ]
    assert talk.synchronized


def test_an_endless_synchronisation_is_cut_short() -> None:
    talk = Conversation()
    part = 4096
    for first in range(0, MAX_SYNCHRONIZED + 2 * part, part):
        pods = [messages.PodSandbox(id=f"{first + number}") for number in range(part)]
        assert len(spoken(synchronize(1, pods, [], more=True), talk)) == 1
    outputs = spoken(synchronize(1, [], [CONTAINER], more=False), talk)
    assert outputs[1] is None
    assert len(outputs) == 2 + MAX_SYNCHRONIZED
    assert all(isinstance(event, SandboxSeen) for event in outputs[2:])


def test_a_refused_registration_ends_the_connection() -> None:
    assert spoken(registered()) == []
    with pytest.raises(NriError) as refusal:
        spoken(registered(2, "no\n\x1b[31mentry" + "x" * 1000))
    assert str(refusal.value).startswith("the runtime refused the plug-in: no\\n\\x1b[31mentryxxx")
    assert str(refusal.value).endswith("x (code 2)")
    assert len(str(refusal.value)) < 300
    with pytest.raises(NriError, match="cannot be decoded"):
        spoken(frame(2, ttrpc(1, 2, b"\xff")))


def test_shutdown_is_answered_and_ends_the_connection() -> None:
    outputs = Conversation().receive(request(3, "Shutdown"), NOW_NS)
    assert next(outputs) == frame(1, ttrpc(3, 2, b""))
    with pytest.raises(NriError, match="the runtime shut the plug-in down"):
        next(outputs)


methods = st.sampled_from(["Configure", "Synchronize", "StateChange", "StartContainer", "RunPodSandbox", "Nothing"])
payloads = st.binary(max_size=80) | st.builds(
    lambda data, place, byte: data[: place % len(data)] + bytes([byte]) + data[place % len(data) + 1 :],
    st.sampled_from(
        [
            messages.EventRequest(pod=POD, container=CONTAINER).SerializeToString(),
            messages.StateChangeEvent(event=6, pod=POD, container=CONTAINER).SerializeToString(),  # type: ignore[arg-type]
            messages.SynchronizeRequest(pods=[POD], containers=[CONTAINER], more=True).SerializeToString(),
        ]
    ),
    st.integers(0),
    st.integers(0, 255),
)
envelopes = st.builds(
    lambda stream, method, payload: request(stream, method, payload), st.integers(0, 2**32 - 1), methods, payloads
)
frames = st.builds(
    lambda connection, stream, kind, data: frame(connection, ttrpc(stream, kind, data)),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
    st.integers(0, 4),
    st.binary(max_size=60),
)


@settings(max_examples=300)
@given(st.lists(envelopes | frames | st.binary(max_size=30), max_size=6), st.integers(1, 200))
def test_fuzzed_frames_never_crash(sent: list[bytes], step: int) -> None:
    data = b"".join(sent)
    talk = Conversation()
    reason = ""
    try:
        for place in range(0, len(data), step):
            spoken(data[place : place + step], talk)
    except NriError as error:
        reason = str(error)
    assert reason.isprintable()
    assert talk.runtime.isprintable()


@given(st.lists(envelopes, max_size=8))
def test_each_request_gets_one_reply_in_turn(requests: list[bytes]) -> None:
    replies = [output for output in spoken(b"".join(requests)) if isinstance(output, bytes)]
    assert [reply[12:16] for reply in replies] == [sent[12:16] for sent in requests]


# The plug-in on its socket


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "_FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(plugin, "_LAST_RETRY_SECONDS", 0.001)


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "nri.sock"


@pytest.fixture
def events() -> "SimpleQueue[Event]":
    return SimpleQueue()


@pytest.fixture
def nri(socket_path: Path, events: "SimpleQueue[Event]") -> Iterator[NriPlugin]:
    started = NriPlugin(socket_path, events)
    started.start()
    yield started
    close(started)


@pytest.fixture
def runtime(socket_path: Path) -> Iterator[FakeRuntime]:
    with FakeRuntime(socket_path) as listening:
        yield listening


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tracer-nri"]


def close(started: NriPlugin) -> None:
    started.close()
    wait_until(lambda: threads() == [])


def wait_until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(_TIMEOUT_SECONDS * 1000):
        if holds():
            return
        pause.wait(0.001)
    raise AssertionError("waited in vain")


def take(events: "SimpleQueue[Event]", count: int) -> list[Event]:
    return [events.get(timeout=_TIMEOUT_SECONDS) for _ in range(count)]


def state_change(number: int, told: messages.Container = CONTAINER) -> messages.StateChangeEvent:
    return messages.StateChangeEvent(event=number, pod=POD, container=told)  # type: ignore[arg-type]


def test_a_pod_from_its_start_to_its_end(runtime: FakeRuntime, nri: NriPlugin, events: "SimpleQueue[Event]") -> None:
    before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    with runtime.accept() as connection:
        connection.let_in()
        wait_until(lambda: nri.status == Status("connected", "containerd 1.7.24"))
        for number in (1, 6, 7):
            assert connection.call("StateChange", state_change(number))[1:] == (0, b"")
        assert connection.call("StopContainer", messages.EventRequest(pod=POD, container=CONTAINER))[1:] == (0, b"")
        for number in (11, 3):
            assert connection.call("StateChange", state_change(number))[1:] == (0, b"")
        everything, *seen = take(events, 7)
    after_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert isinstance(everything, SynchronizedAll)
    expected = [
        sandbox_seen("started"),
        container_seen("started"),
        container_seen("started"),
        container_seen("stopped"),
        container_seen("removed"),
        sandbox_seen("removed"),
    ]
    assert [replace(event, time_ns=NOW_NS) for event in seen] == expected
    times = [event.time_ns for event in seen]
    assert [before_ns, *times, after_ns] == sorted([before_ns, *times, after_ns])
    assert (nri.dropped, nri.undecoded) == (0, 0)


def test_unknown_methods_are_unimplemented_and_the_connection_goes_on(runtime: FakeRuntime, nri: NriPlugin) -> None:
    with runtime.accept() as connection:
        connection.let_in()
        assert connection.call("OfTheFuture").status == 12
        assert connection.call("StartContainer", service="of.the.Future").status == 12
        assert connection.call("CreateContainer")[1:] == (0, b"")
        assert connection.call("StartContainer", b"\xff")[1:] == (0, b"")
        wait_until(lambda: nri.undecoded == 1)


def test_pipelined_requests_are_answered_in_their_order(runtime: FakeRuntime, nri: NriPlugin) -> None:
    with runtime.accept() as connection:
        connection.let_in()
        streams = range(101, 501, 2)
        known = {stream: stream % 3 != 0 for stream in streams}
        for stream in streams:
            connection.send(request(stream, "StartContainer" if known[stream] else "OfTheFuture"))
        replies = [connection.receive_reply() for _ in streams]
    assert [(reply.stream, reply.status) for reply in replies] == [
        (stream, 0 if known[stream] else 12) for stream in streams
    ]
    wait_until(lambda: nri.undecoded == sum(known.values()))


@pytest.mark.usefixtures("nri")
def test_a_synchronisation_of_the_largest_message(runtime: FakeRuntime, events: "SimpleQueue[Event]") -> None:
    def first_part(filler_bytes: int) -> bytes:
        large = messages.Container(id="large", annotations={"filler": "x" * filler_bytes})
        return request(1, "Synchronize", messages.SynchronizeRequest(pods=[POD], containers=[large], more=True))

    too_long = len(first_part(MAX_DATA_BYTES)) - 18 - MAX_DATA_BYTES
    sent = first_part(MAX_DATA_BYTES - too_long)
    assert sent[8:12] == MAX_DATA_BYTES.to_bytes(4, "big")
    with runtime.accept() as connection:
        connection.receive(len(REGISTRATION))
        connection.send(sent)
        assert connection.receive_reply() == Reply(1, 0, b"\x10\x01")
        connection.send(synchronize(3, [], [CONTAINER], more=False))
        assert connection.receive_reply() == Reply(3, 0, b"")
        *_, everything = take(events, 4)
        assert isinstance(everything, SynchronizedAll)
        assert everything.ids == {POD.id, "large", CONTAINER.id}
        # One byte more than ttrpc allows.
        connection.send(frame(1, (MAX_DATA_BYTES + 1).to_bytes(4, "big") + bytes(6)))
        assert connection.receive(1) == b""
    (end,) = take(events, 1)
    assert isinstance(end, Disconnected)
    assert end.reason == "the runtime sent a message of 4194305 bytes, more than ttrpc allows"


def test_after_a_restart_of_the_runtime_the_difference_can_be_told(
    socket_path: Path, nri: NriPlugin, events: "SimpleQueue[Event]"
) -> None:
    wait_until(lambda: nri.status.detail.endswith("No such file or directory"))
    assert nri.status.state == "absent"
    stays, goes, comes = (container(number, POD) for number in range(3))
    with FakeRuntime(socket_path) as runtime, runtime.accept() as connection:
        connection.let_in([POD], [stays, goes])
        first = take(events, 4)
    (end,) = take(events, 1)
    assert isinstance(end, Disconnected)
    assert end.reason == "the runtime closed the connection"
    # The socket is still there, but nobody listens.
    wait_until(lambda: nri.status.detail.endswith("Connection refused"))
    assert nri.status.state == "absent"

    socket_path.unlink()
    with FakeRuntime(socket_path) as runtime, runtime.accept() as connection:
        connection.let_in([POD], [stays, comes])
        second = take(events, 4)
        wait_until(lambda: nri.status.state == "connected")
    assert isinstance(first[-1], SynchronizedAll)
    assert isinstance(second[-1], SynchronizedAll)
    assert first[-1].ids - second[-1].ids == {goes.id}
    assert second[-1].ids - first[-1].ids == {comes.id}


def test_the_same_failure_is_told_once(runtime: FakeRuntime, nri: NriPlugin, events: "SimpleQueue[Event]") -> None:
    for code in (2, 2, 2, 3):
        with runtime.accept() as connection:
            assert connection.receive(len(REGISTRATION)) == REGISTRATION
            connection.send(registered(code, "no entry"))
            assert connection.receive(1) == b""
    ends = take(events, 2)
    assert [end.reason for end in ends if isinstance(end, Disconnected)] == [
        "the runtime refused the plug-in: no entry (code 2)",
        "the runtime refused the plug-in: no entry (code 3)",
    ]
    assert nri.status.state == "reconnecting"


def test_after_a_shutdown_the_plug_in_comes_again(
    runtime: FakeRuntime, nri: NriPlugin, events: "SimpleQueue[Event]"
) -> None:
    with runtime.accept() as connection:
        connection.let_in()
        assert connection.call("Shutdown")[1:] == (0, b"")
        assert connection.receive(1) == b""
    _, end = take(events, 2)
    assert isinstance(end, Disconnected)
    assert end.reason == "the runtime shut the plug-in down"
    with runtime.accept() as connection:
        connection.let_in()
        wait_until(lambda: nri.status.state == "connected")


def test_a_full_queue_costs_events_and_no_reply(
    monkeypatch: pytest.MonkeyPatch, runtime: FakeRuntime, nri: NriPlugin, events: "SimpleQueue[Event]"
) -> None:
    monkeypatch.setattr(plugin, "_MAX_QUEUED", 10)
    with runtime.accept() as connection:
        connection.let_in()
        for _ in range(30):
            assert connection.call("StateChange", state_change(6))[1:] == (0, b"")
        wait_until(lambda: nri.dropped == 21)
        assert events.qsize() == 10
        take(events, 10)
        assert connection.call("StateChange", state_change(6))[1:] == (0, b"")
        assert isinstance(take(events, 1)[0], ContainerSeen)
        assert nri.dropped == 21


def whole_talk() -> bytes:
    """All that a runtime sends from the registration to the first container."""
    configure = messages.ConfigureRequest(runtime_name="containerd", runtime_version="1.7.24")
    return b"".join([
        registered(),
        request(1, "Configure", configure),
        synchronize(3, [POD], [], more=True),
        synchronize(5, [], [container(2, POD)], more=False),
        request(7, "StateChange", state_change(6)),
    ])  # fmt: skip


def replies_to(talk: bytes) -> int:
    return sum(len(output) for output in spoken(talk) if isinstance(output, bytes))


@pytest.mark.parametrize("last_words", [b"", b"\xff" * 20, b"\x00" * 20, b"GET / HTTP/1.1\r\n\r\n"])
def test_a_runtime_that_breaks_off_at_any_byte(
    runtime: FakeRuntime, nri: NriPlugin, events: "SimpleQueue[Event]", last_words: bytes
) -> None:
    talk = whole_talk()
    for length in range(len(talk)):
        with runtime.accept() as connection:
            connection.send(talk[:length] + last_words)
            connection.receive(len(REGISTRATION) + replies_to(talk[:length]))
    # It comes again all the same, and all is as if nothing had been.
    with runtime.accept() as connection:
        connection.let_in([POD], [CONTAINER])
        wait_until(lambda: nri.status.state == "connected")
        *before, last = take(events, events.qsize())
    assert isinstance(last, SynchronizedAll)
    assert last.ids == {POD.id, CONTAINER.id}
    assert not [event for event in before if isinstance(event, Disconnected) and "defect" in event.reason]


def test_close_does_not_wait_for_a_runtime_that_stalls_at_any_byte(
    socket_path: Path, runtime: FakeRuntime, events: "SimpleQueue[Event]"
) -> None:
    talk = whole_talk()
    for length in range(0, len(talk), 7):
        started = NriPlugin(socket_path, events)
        started.start()
        with runtime.accept() as connection:
            connection.send(talk[:length])
            connection.receive(len(REGISTRATION) + replies_to(talk[:length]))
            close(started)
    assert started.status == Status("absent", "closed")


def test_close_does_not_wait_for_a_runtime_that_reads_no_replies(
    monkeypatch: pytest.MonkeyPatch, socket_path: Path, runtime: FakeRuntime, events: "SimpleQueue[Event]"
) -> None:
    monkeypatch.setattr(plugin, "_SEND_SECONDS", 3600)
    started = NriPlugin(socket_path, events)
    started.start()
    with runtime.accept() as connection:
        flood = threading.Thread(target=send_all, args=(connection, request(1, "OfTheFuture") * 20_000))
        flood.start()
        wait_until(lambda: connection.unread_bytes() > 10_000)
        close(started)
        flood.join(_TIMEOUT_SECONDS)
        assert not flood.is_alive()


def send_all(connection: RuntimeConnection, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.send(data)


@pytest.mark.usefixtures("nri")
def test_a_runtime_that_reads_no_replies_is_left(
    monkeypatch: pytest.MonkeyPatch, runtime: FakeRuntime, events: "SimpleQueue[Event]"
) -> None:
    monkeypatch.setattr(plugin, "_SEND_SECONDS", 1)
    with runtime.accept() as connection:
        connection.close()
    with runtime.accept() as connection:
        send_all(connection, request(1, "OfTheFuture") * 20_000)
    reasons = [event.reason for event in take(events, 2) if isinstance(event, Disconnected)]
    assert reasons == ["the runtime closed the connection", "the runtime does not read the replies"]


def test_a_runtime_that_never_lets_the_plug_in_in_is_tried_anew(
    monkeypatch: pytest.MonkeyPatch, socket_path: Path, runtime: FakeRuntime, events: "SimpleQueue[Event]"
) -> None:
    monkeypatch.setattr(plugin, "_REGISTRATION_SECONDS", 1)
    started = NriPlugin(socket_path, events)
    started.start()
    with runtime.accept(), runtime.accept() as second:
        second.let_in()
        (end, _) = take(events, 2)
        assert isinstance(end, Disconnected)
        assert end.reason == "the runtime did not let the plug-in in within 1 s"
        close(started)


def test_a_runtime_that_has_nothing_to_say_is_not_left(
    monkeypatch: pytest.MonkeyPatch, socket_path: Path, runtime: FakeRuntime, events: "SimpleQueue[Event]"
) -> None:
    monkeypatch.setattr(plugin, "_REGISTRATION_SECONDS", 1)
    started = NriPlugin(socket_path, events)
    started.start()
    with runtime.accept() as connection:
        connection.let_in()
        wait_until(lambda: started.status.state == "connected")
        time.sleep(1.2)
        assert connection.call("StateChange", state_change(6))[1:] == (0, b"")
        close(started)


def test_close_while_nobody_is_there(nri: NriPlugin) -> None:
    wait_until(lambda: nri.status.detail != "not tried yet")
    close(nri)
    assert nri.status == Status("absent", "closed")
    nri.close()


def test_close_does_not_wait_for_the_next_try(
    monkeypatch: pytest.MonkeyPatch, socket_path: Path, events: "SimpleQueue[Event]"
) -> None:
    monkeypatch.setattr(plugin, "_FIRST_RETRY_SECONDS", 3600.0)
    started = NriPlugin(socket_path, events)
    started.start()
    wait_until(lambda: started.status.detail != "not tried yet")
    close(started)


def test_close_without_a_start(socket_path: Path, events: "SimpleQueue[Event]") -> None:
    NriPlugin(socket_path, events).close()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_what_is_no_socket_is_no_runtime(
    make: Callable[[Path], None], socket_path: Path, events: "SimpleQueue[Event]"
) -> None:
    make(socket_path)
    started = NriPlugin(socket_path, events)
    started.start()
    wait_until(lambda: started.status == Status("absent", f"{socket_path}: Connection refused"))
    close(started)
    assert events.empty()


def test_a_path_too_long_or_hostile_is_one_line(tmp_path: Path, events: "SimpleQueue[Event]") -> None:
    for path in (tmp_path / ("x" * 200), tmp_path / "a\nb\x1b[2J"):
        started = NriPlugin(path, events)
        started.start()
        wait_until(lambda started=started: started.status.detail != "not tried yet")
        close_status = started.status
        close(started)
        assert close_status.state == "absent"
        assert close_status.detail.isprintable()


def test_a_full_backlog_is_not_waited_for(socket_path: Path, events: "SimpleQueue[Event]") -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, contextlib.ExitStack() as others:
        listener.bind(str(socket_path))
        listener.listen(0)
        for _ in range(1):
            others.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)).connect(str(socket_path))
        started = NriPlugin(socket_path, events)
        started.start()
        wait_until(lambda: started.status.detail.endswith("Resource temporarily unavailable"))
        close(started)


@pytest.mark.usefixtures("nri")
def test_a_defect_is_a_reason_and_no_end(
    monkeypatch: pytest.MonkeyPatch, runtime: FakeRuntime, events: "SimpleQueue[Event]"
) -> None:
    def fail(_method: str, _payload: bytes, _time_ns: int) -> None:
        raise LookupError("not\nforeseen")

    with monkeypatch.context() as patch, runtime.accept() as connection:
        connection.let_in()
        patch.setattr(conversation, "decode_event", fail)
        assert connection.call("StartContainer")[1:] == (0, b"")
        _, end = take(events, 2)
    assert isinstance(end, Disconnected)
    assert end.reason == "defect: LookupError('not\\nforeseen')"
    with runtime.accept() as connection:
        connection.let_in()


def test_tries_grow_rarer_until_a_connection_lasts(
    monkeypatch: pytest.MonkeyPatch, socket_path: Path, events: "SimpleQueue[Event]"
) -> None:
    monkeypatch.setattr(plugin, "_FIRST_RETRY_SECONDS", 0.5)
    monkeypatch.setattr(plugin, "_LAST_RETRY_SECONDS", 30.0)
    lasted = [0, 0.1, 0, 0, 0, 0, 0, 0, 29, 31, 1]
    clock = iter([reading for seconds in lasted for reading in (100.0, 100.0 + seconds)])
    monkeypatch.setattr(plugin, "time", SimpleNamespace(monotonic=clock.__next__))
    waits: list[float | None] = []

    class Closing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            if len(waits) == len(lasted):
                self.set()
            return self.is_set()

    started = NriPlugin(socket_path, events)
    monkeypatch.setattr(started, "_closing", Closing())
    started.start()
    wait_until(lambda: threads() == [])
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 0.5, 1]
