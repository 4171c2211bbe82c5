"""A reconcile never acts on a cache that is older than its own last write."""

import asyncio

import pytest

from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.expectations import Expectations
from finetune_operator.kube.informer import Informer
from kube.fault_server import FaultServer
from kube.watcher import THINGS

KEY = ("d", "job")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def written(version: int, name: str = "child") -> dict:
    return {"metadata": {"namespace": "d", "name": name, "resourceVersion": str(version)}}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def expectations(clock: Clock) -> Expectations:
    return Expectations(timeout=5, now=clock)


def test_satisfied_when_nothing_was_written(expectations: Expectations) -> None:
    assert expectations.satisfied(KEY)


def test_waits_for_the_written_version_or_a_newer_one(expectations: Expectations) -> None:
    expectations.expect(KEY, "Job", written(10))
    assert not expectations.satisfied(KEY)
    expectations.observed("Job", written(9))
    assert not expectations.satisfied(KEY)
    expectations.observed("Job", written(12))
    assert expectations.satisfied(KEY)


def test_versions_are_numbers_and_not_text(expectations: Expectations) -> None:
    expectations.expect(KEY, "Job", written(99))
    expectations.observed("Job", written(100))
    assert expectations.satisfied(KEY)


def test_every_write_is_awaited(expectations: Expectations) -> None:
    expectations.expect(KEY, "Job", written(10))
    expectations.expect(KEY, "Service", written(11))
    expectations.expect(KEY, "Job", written(12, "other"))
    expectations.observed("Job", written(10))
    expectations.observed("Service", written(11))
    assert not expectations.satisfied(KEY)
    expectations.observed("Job", written(12, "other"))
    assert expectations.satisfied(KEY)


def test_deletion_satisfies_whatever_its_version(expectations: Expectations) -> None:
    expectations.expect(KEY, "Job", written(10))
    expectations.observed("Job", written(3), deleted=True)
    assert expectations.satisfied(KEY)


def test_gives_up_after_the_timeout(expectations: Expectations, clock: Clock) -> None:
    expectations.expect(KEY, "Job", written(10))
    clock.now += 4.9
    assert 0 < expectations.remaining(KEY) <= 0.11
    clock.now += 0.2
    assert expectations.satisfied(KEY)


def test_keys_do_not_wait_for_each_other(expectations: Expectations) -> None:
    expectations.expect(KEY, "Job", written(10))
    assert expectations.satisfied(("d", "another"))


def test_shared_object_satisfies_all_that_wait_for_it(expectations: Expectations) -> None:
    expectations.expect(KEY, "Job", written(10))
    expectations.expect(("d", "another"), "Job", written(11))
    expectations.observed("Job", written(10))
    assert expectations.satisfied(KEY)
    assert not expectations.satisfied(("d", "another"))


def test_nothing_is_kept_of_what_is_over(expectations: Expectations, clock: Clock) -> None:
    expectations.expect(KEY, "Job", written(10))
    expectations.observed("Job", written(10))
    expectations.expect(KEY, "Job", written(20))
    clock.now += 6
    assert expectations.satisfied(KEY)
    expectations.expect(KEY, "Job", written(30))
    expectations.forget(KEY)
    assert (expectations._pending, expectations._waiting) == ({}, {})


async def test_an_echo_that_was_faster_than_the_answer_is_not_awaited(server: FaultServer, api: HttpKubeApi) -> None:
    informer = Informer(api, THINGS)
    expectations = Expectations()
    expectations.watch(informer)
    task = asyncio.create_task(informer.run())
    await informer.synced.wait()
    seen = asyncio.Event()
    informer.add_handler(lambda _old, _new: seen.set())
    made = await server.put("things", "child")
    await seen.wait()
    expectations.expect(KEY, THINGS.kind, made)
    assert expectations.satisfied(KEY)
    newer = {"metadata": made["metadata"] | {"resourceVersion": str(server.version + 1)}}
    expectations.expect(KEY, THINGS.kind, newer)
    assert not expectations.satisfied(KEY)
    task.cancel()
