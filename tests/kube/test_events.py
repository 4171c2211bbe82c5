"""Events are written beside the work: grouped, limited, dropped when they must be, never in the way."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.events import EventLimits, EventRecorder
from finetune_operator.kube.metrics import REGISTRY
from kube.fault_server import FaultServer, answering, status

ROOMY = replace(EventLimits(), burst=1000)


def thing(name: str = "a", **metadata) -> dict:
    return {
        "apiVersion": "x.io/v1",
        "kind": "Thing",
        "metadata": {"name": name, "namespace": "d", "uid": f"uid-{name}", "resourceVersion": "7"} | metadata,
    }


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def recording(api: HttpKubeApi, clock: Clock):
    """`await recording(limits)`: a recorder whose `run` is at work."""
    tasks: list[asyncio.Task[None]] = []

    async def start(limits: EventLimits = ROOMY) -> EventRecorder:
        recorder = EventRecorder(api, "tester", instance="tester-0", limits=limits, now=clock)
        tasks.append(asyncio.create_task(recorder.run()))
        return recorder

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


Recording = Callable[..., Awaitable[EventRecorder]]


def events(server: FaultServer) -> list[dict]:
    return list(server.collections["events"].items.values())


async def test_event_has_every_field_that_the_api_demands(recording: Recording, server: FaultServer) -> None:
    recorder = await recording()
    recorder.record(thing(), "Warning", "Broken", "it broke", "Mending")
    await recorder.drain(10)
    assert server.seen[-1].path == "/apis/events.k8s.io/v1/namespaces/d/events"
    (event,) = events(server)
    assert event["regarding"] == {
        "apiVersion": "x.io/v1",
        "kind": "Thing",
        "name": "a",
        "namespace": "d",
        "uid": "uid-a",
        "resourceVersion": "7",
    }
    assert event["eventTime"].endswith("Z")
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "Broken", "Mending")
    assert (event["reportingController"], event["reportingInstance"]) == ("tester", "tester-0")
    assert event["note"] == "it broke"


async def test_action_defaults_to_the_reason(recording: Recording, server: FaultServer) -> None:
    recorder = await recording()
    recorder.record(thing(), "Normal", "Started", "x")
    await recorder.drain(10)
    assert events(server)[0]["action"] == "Started"


async def test_cluster_scoped_objects_have_their_events_in_default(recording: Recording, server: FaultServer) -> None:
    recorder = await recording()
    recorder.record(thing(namespace=None), "Normal", "Started", "x")
    await recorder.drain(10)
    assert events(server)[0]["metadata"]["namespace"] == "default"


async def test_same_event_again_raises_the_count_of_the_first(recording: Recording, server: FaultServer) -> None:
    recorder = await recording()
    for _ in range(4):
        recorder.record(thing(), "Normal", "Started", "x")
    recorder.record(thing("b"), "Normal", "Started", "x")
    recorder.record(thing(), "Normal", "Stopped", "x")
    await recorder.drain(10)
    counts = {
        (event["regarding"]["name"], event["reason"]): (event.get("series") or {}).get("count")
        for event in events(server)
    }
    assert counts == {("a", "Started"): 4, ("b", "Started"): None, ("a", "Stopped"): None}
    series = next(event["series"] for event in events(server) if "series" in event)
    assert series["lastObservedTime"].endswith("Z")


async def test_series_ends_after_six_quiet_minutes(recording: Recording, server: FaultServer, clock: Clock) -> None:
    recorder = await recording()
    recorder.record(thing(), "Normal", "Started", "x")
    await recorder.drain(10)
    clock.now += 400
    recorder.record(thing(), "Normal", "Started", "x")
    await recorder.drain(10)
    assert len(events(server)) == 2


async def test_event_that_has_expired_is_written_anew(recording: Recording, server: FaultServer) -> None:
    recorder = await recording()
    recorder.record(thing(), "Normal", "Started", "x")
    await recorder.drain(10)
    server.collections["events"].items.clear()
    recorder.record(thing(), "Normal", "Started", "x")
    await recorder.drain(10)
    assert len(events(server)) == 1


async def test_many_notes_of_one_reason_are_combined(recording: Recording, server: FaultServer) -> None:
    recorder = await recording()
    for number in range(30):
        recorder.record(thing(), "Warning", "Failed", f"attempt {number}")
    await recorder.drain(10)
    assert len(events(server)) == 11
    combined = [event for event in events(server) if "series" in event]
    assert len(combined) == 1
    assert combined[0]["note"] == "(combined from similar events): attempt 10"
    assert combined[0]["series"]["count"] == 20


async def test_chatty_object_is_limited_and_the_others_are_not(
    recording: Recording, server: FaultServer, clock: Clock
) -> None:
    dropped = (
        REGISTRY.get_sample_value("event_recorder_dropped_events_total", {"reason": "rate-limit", "type": "Normal"})
        or 0
    )
    recorder = await recording(replace(ROOMY, burst=5))
    for number in range(8):
        recorder.record(thing(), "Normal", f"Reason{number}", "x")
    recorder.record(thing("b"), "Normal", "Started", "x")
    await recorder.drain(10)
    assert sorted(event["regarding"]["name"] for event in events(server)) == ["a"] * 5 + ["b"]
    now = REGISTRY.get_sample_value("event_recorder_dropped_events_total", {"reason": "rate-limit", "type": "Normal"})
    assert now - dropped == 3
    clock.now += 301
    recorder.record(thing(), "Normal", "Later", "x")
    await recorder.drain(10)
    assert events(server)[-1]["reason"] == "Later"


def dropped(reason: str, type: str) -> float:
    found = REGISTRY.get_sample_value("event_recorder_dropped_events_total", {"reason": reason, "type": type})
    return found or 0.0


async def test_flood_is_dropped_and_counted_and_never_blocks(
    api: HttpKubeApi, caplog: pytest.LogCaptureFixture
) -> None:
    """Normal events never take a place from a Warning; a Warning for which there is none goes to the log."""
    before = dropped("queue-full", "Normal"), dropped("queue-full", "Warning")
    recorder = EventRecorder(api, "tester", limits=EventLimits(normal=900, warnings=100))  # nobody writes
    for number in range(1400):
        recorder.record(thing(f"t{number}"), "Normal", "Started", "x")
    assert recorder.waiting == 900
    for number in range(101):
        recorder.record(thing(f"t{number}"), "Warning", "Broken", "it broke")
    assert recorder.waiting == 1000
    assert (dropped("queue-full", "Normal"), dropped("queue-full", "Warning")) == (before[0] + 500, before[1] + 1)
    assert caplog.messages == ["event not written (queue-full): Warning Broken Thing d/t100: it broke"]


async def test_a_server_in_trouble_is_asked_again_and_gets_no_event_twice(
    recording: Recording, server: FaultServer
) -> None:
    for code in (500, 503, 429):
        server.script("POST", answering(lambda code=code: status(code, "Trouble")))
    recorder = await recording(replace(ROOMY, first_pause=0.01))
    recorder.record(thing(), "Warning", "Broken", "it broke")
    recorder.record(thing(), "Warning", "Broken", "it broke")
    await recorder.drain(10)
    (event,) = events(server)
    assert event["series"]["count"] == 2
    names = {seen.body["metadata"]["name"] for seen in server.seen if seen.method == "POST"}
    assert names == {event["metadata"]["name"]}, "each time the same, so that an answer that was lost does no harm"


async def test_an_event_whose_answer_was_lost_is_there_once(recording: Recording, server: FaultServer) -> None:
    server.script("POST", server.losing_the_answer)
    recorder = await recording(replace(ROOMY, first_pause=0.01))
    recorder.record(thing(), "Warning", "Broken", "it broke")
    await recorder.drain(10)
    assert [event["reason"] for event in events(server)] == ["Broken"]
    assert [seen.method for seen in server.seen] == ["POST", "POST"]


async def test_trouble_that_stays_costs_the_event_and_says_so(
    recording: Recording, server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        server.script("POST", answering(lambda: status(500, "InternalError", "no etcd")))
    recorder = await recording(replace(ROOMY, first_pause=0.01, tries=3))
    recorder.record(thing(), "Warning", "Broken", "it broke")
    recorder.record(thing(), "Normal", "Started", "x")
    await recorder.drain(10)
    assert [event["reason"] for event in events(server)] == ["Started"]
    assert (
        "event not written (api-error): Warning Broken Thing d/a: it broke (500 InternalError: no etcd)" in caplog.text
    )


async def test_a_thousand_objects_at_once_have_all_their_events_written(
    recording: Recording, server: FaultServer
) -> None:
    recorder = await recording(EventLimits())
    for number in range(1000):
        for reason in ("Started", "Running"):
            recorder.record(thing(f"t{number}"), "Normal", reason, "x")
    await recorder.drain(60)
    assert len(events(server)) == 2000
    order = {event["regarding"]["name"]: [] for event in events(server)}
    for event in events(server):
        order[event["regarding"]["name"]].append(event["reason"])
    assert set(map(tuple, order.values())) == {("Started", "Running")}


async def test_refused_event_is_dropped_and_the_next_one_written(recording: Recording, server: FaultServer) -> None:
    server.script("POST", answering(lambda: status(403, "Forbidden", "namespace is being terminated")))
    recorder = await recording()
    recorder.record(thing(), "Normal", "First", "x")
    recorder.record(thing(), "Normal", "Second", "x")
    await recorder.drain(10)
    assert [event["reason"] for event in events(server)] == ["Second"]


async def test_long_notes_are_cut_at_the_limit_of_the_api(recording: Recording, server: FaultServer) -> None:
    recorder = await recording()
    recorder.record(thing(), "Normal", "Started", "ü" * 2000)
    await recorder.drain(10)
    note = events(server)[0]["note"]
    assert len(note.encode()) <= 1024
    assert note.endswith("…")


async def test_what_a_frozen_server_does_not_take_in_time_goes_to_the_log(
    recording: Recording, server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = await recording()
    server.freeze()
    recorder.record(thing(), "Normal", "Started", "x")
    recorder.record(thing(), "Warning", "Broken", "it broke")
    async with asyncio.timeout(5):
        await recorder.drain(0.1)
    server.thaw()
    assert "event not written (shutdown): Warning Broken Thing d/a: it broke" in caplog.text
