"""A process that has lost its lease sends no more writes, wherever in a reconcile it is."""

import asyncio

import pytest

from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.controller import Controller, Key
from finetune_operator.kube.leader_election import LeadershipLost
from kube.fault_server import FaultServer, answering, status
from kube.watcher import THINGS

THING = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "a", "namespace": "d"}}


class Lease:
    """Held until it is lost."""

    held = True

    def check(self) -> None:
        if not self.held:
            raise LeadershipLost("lost")


async def test_no_kind_of_write_is_sent_and_reads_are(api: HttpKubeApi, server: FaultServer) -> None:
    created = await api.create(THINGS, THING)
    lease = Lease()
    fenced = api.fenced(lease.check)
    await fenced.replace(THINGS, created)
    lease.held = False
    seen = len(server.seen)
    for write in (
        fenced.create(THINGS, THING),
        fenced.replace(THINGS, created),
        fenced.replace_status(THINGS, created),
        fenced.patch(THINGS, "a", {}, "d", subresource="status"),
        fenced.apply(THINGS, THING, field_manager="x"),
        fenced.delete(THINGS, "a", "d"),
    ):
        with pytest.raises(LeadershipLost):
            await write
    assert len(server.seen) == seen
    assert (await fenced.get(THINGS, "a", "d"))["metadata"]["name"] == "a"
    await api.delete(THINGS, "a", "d")  # the election and the receiver share the connections, not the fence


async def test_a_write_whose_body_waits_for_its_turn_is_not_sent(api: HttpKubeApi, server: FaultServer) -> None:
    lease = Lease()

    def check() -> None:
        lease.check()
        lease.held = False  # frozen as soon as it was found held

    with pytest.raises(LeadershipLost):
        await api.fenced(check).create(THINGS, THING)
    assert server.seen == []


async def test_a_write_that_the_server_put_off_is_not_sent_again(api: HttpKubeApi, server: FaultServer) -> None:
    lease = Lease()

    def put_off() -> object:
        lease.held = False
        return status(429, "TooManyRequests", **{"Retry-After": "0"})

    server.script("POST", answering(put_off))
    with pytest.raises(LeadershipLost):
        await api.fenced(lease.check).create(THINGS, THING)
    assert [seen.method for seen in server.seen].count("POST") == 1


async def test_a_reconcile_that_meets_the_fence_ends_the_controller(api: HttpKubeApi) -> None:
    """Not one more try: the process ends and is started afresh."""
    lease = Lease()
    fenced = api.fenced(lease.check)

    async def reconcile(_: Key) -> None:
        lease.held = False
        await fenced.create(THINGS, THING)

    controller = Controller("things", reconcile, workers=1)
    controller.gate = lease.check
    controller.queue.add(("d", "a"))
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.timeout(20):
            await controller.run()
    assert ended.group_contains(LeadershipLost)
