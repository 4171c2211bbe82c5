"""One leader at a time, whatever the server, the clock and the other replicas do."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from finetune_operator.kube import leader_election
from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.leader_election import LeadershipLost, LeaseElector, LeaseTiming
from finetune_operator.kube.metrics import REGISTRY
from finetune_operator.kube.resources import LEASES
from kube.fault_server import FaultServer, answering, status


def elector(api: HttpKubeApi, identity: str, duration: float = 1.5) -> LeaseElector:
    return LeaseElector(api, "d", "lock", identity, duration, duration / 1.5, 0.2)


def lease(server: FaultServer) -> dict:
    return server.collections["leases"].items["d", "lock"]["spec"]


class Leader:
    """An elector whose work only notes when it begins and ends."""

    def __init__(self, api: HttpKubeApi, identity: str, duration: float = 1.5) -> None:
        self.elector = elector(api, identity, duration)
        self.began, self.finish = asyncio.Event(), asyncio.Event()
        self.cancelled_at: float | None = None
        self.task = asyncio.create_task(self.elector.run(self._work))

    async def _work(self) -> None:
        self.began.set()
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.cancelled_at = time.monotonic()
            raise

    async def leads(self) -> None:
        async with asyncio.timeout(20):
            await self.began.wait()

    async def kill(self) -> None:
        """Without a release, as SIGKILL would."""
        self.elector._step_down()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_first_creates_the_lease_and_the_second_waits(api: HttpKubeApi, server: FaultServer) -> None:
    first, second = Leader(api, "one"), Leader(api, "two")
    await asyncio.wait(
        [asyncio.create_task(first.leads()), asyncio.create_task(second.leads())], return_when=asyncio.FIRST_COMPLETED
    )
    renewals = server.count("PUT") + 8
    await server.until_seen("PUT", renewals)
    assert first.began.is_set() != second.began.is_set()
    leading = first if first.began.is_set() else second
    spec = lease(server)
    assert spec["holderIdentity"] == leading.elector.identity
    assert (spec["leaseTransitions"], spec["leaseDurationSeconds"]) == (0, 2)
    assert REGISTRY.get_sample_value("leader_election_master_status", {"name": "lock"}) is not None
    await first.kill()
    await second.kill()


async def test_times_are_utc_with_microseconds_wherever_the_process_runs(
    api: HttpKubeApi, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        leader = Leader(api, "one")
        await leader.leads()
        spec = lease(server)
        await leader.kill()
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    for name in ("acquireTime", "renewTime"):
        moment = datetime.strptime(spec[name], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)


async def test_lease_of_a_dead_leader_is_taken_over_after_its_duration(api: HttpKubeApi, server: FaultServer) -> None:
    first = Leader(api, "one")
    await first.leads()
    await first.kill()
    assert lease(server)["holderIdentity"] == "one"
    started = time.monotonic()
    second = Leader(api, "two")
    await second.leads()
    assert time.monotonic() - started >= 1.5
    assert lease(server)["holderIdentity"] == "two"
    assert lease(server)["leaseTransitions"] == 1
    await second.kill()


async def test_clock_of_the_other_machine_does_not_matter(api: HttpKubeApi, server: FaultServer) -> None:
    old = {"holderIdentity": "other", "leaseDurationSeconds": 60, "renewTime": "2001-01-01T00:00:00.000000Z"}
    await server.put("leases", "lock", spec=old)
    leader = Leader(api, "one")
    await server.until_seen("GET", 4)
    assert not leader.began.is_set()  # its renewTime is long ago, but we have not watched it for 60 s
    await leader.kill()


async def test_clean_end_releases_the_lease_and_a_standby_takes_over_at_once(
    api: HttpKubeApi, server: FaultServer
) -> None:
    first = Leader(api, "one", duration=60)
    await first.leads()
    second = Leader(api, "two", duration=60)
    await server.until_seen("GET", 2)
    first.finish.set()
    async with asyncio.timeout(10):
        await first.task
    assert (lease(server)["holderIdentity"], lease(server)["leaseDurationSeconds"]) == ("", 1)
    async with asyncio.timeout(20):  # a retry period, and by no means the lease's 60 s
        await second.leads()
    assert lease(server)["leaseTransitions"] == 1
    await second.kill()


async def test_the_lease_of_another_is_not_given_back(api: HttpKubeApi, server: FaultServer) -> None:
    leader = Leader(api, "one", duration=60)
    await leader.leads()
    await server.put("leases", "lock", spec=dict(lease(server), holderIdentity="thief"))
    leader.finish.set()
    await asyncio.gather(leader.task, return_exceptions=True)
    assert lease(server)["holderIdentity"] == "thief"


async def test_a_renewal_that_hangs_is_tried_again_before_the_lease_is_lost(
    api: HttpKubeApi, server: FaultServer
) -> None:
    async def never(_):
        await asyncio.Event().wait()

    leader = Leader(api, "one", duration=4.5)
    await leader.leads()
    server.script("PUT", never)
    await server.until_seen("PUT", server.count("PUT") + 3)
    assert leader.elector.leading
    assert leader.cancelled_at is None
    await leader.kill()


async def test_a_release_that_hangs_does_not_hold_up_the_end(connect, server: FaultServer) -> None:
    leader = Leader(await connect(timeout=60.0), "one")
    await leader.leads()
    server.freeze()
    leader.finish.set()
    await asyncio.wait_for(leader.task, 20)
    server.thaw()


async def test_a_standby_looks_more_often_than_a_leader_renews(
    api: HttpKubeApi, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it leads within a second of a clean exit."""
    assert leader_election.STANDBY_POLL * 1.2 < 1
    monkeypatch.setattr(leader_election, "STANDBY_POLL", 0.05)
    await server.put("leases", "lock", spec={"holderIdentity": "other", "leaseDurationSeconds": 60})
    standby = asyncio.create_task(LeaseElector(api, "d", "lock", "two", 60, 40, 30).run(asyncio.Event().wait))
    await server.until_seen("GET", 4, seconds=20)
    standby.cancel()


async def test_release_waits_for_the_work_to_stop(api: HttpKubeApi, server: FaultServer) -> None:
    held_at_the_end: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            held_at_the_end.append(lease(server)["holderIdentity"])

    election = elector(api, "one")
    task = asyncio.create_task(election.run(work))
    await server.until_seen("PUT", 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert held_at_the_end == ["one"]
    assert lease(server)["holderIdentity"] == ""


async def test_failed_work_releases_the_lease_too(api: HttpKubeApi, server: FaultServer) -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await elector(api, "one").run(work)
    assert lease(server)["holderIdentity"] == ""


async def test_frozen_server_makes_the_leader_stop_before_another_may_start(
    api: HttpKubeApi, server: FaultServer
) -> None:
    leader = Leader(api, "one", duration=3.0)
    await leader.leads()
    await server.until_seen("PUT", 2)
    frozen_at = time.monotonic()
    server.freeze()
    async with asyncio.timeout(20):
        with pytest.raises(LeadershipLost):
            await leader.task
    assert leader.cancelled_at is not None
    assert leader.cancelled_at - frozen_at < 3.0  # the lease's duration: until then nobody else may work
    assert not leader.elector.leading
    server.thaw()


async def test_unreachable_server_makes_the_leader_stop(api: HttpKubeApi, server: FaultServer) -> None:
    leader = Leader(api, "one")
    await leader.leads()
    await server.stop()
    async with asyncio.timeout(20):
        with pytest.raises(LeadershipLost):
            await leader.task


async def test_short_outage_is_survived(api: HttpKubeApi, server: FaultServer) -> None:
    leader = Leader(api, "one", duration=6.0)
    await leader.leads()
    server.script("PUT", *[answering(lambda: status(500, "InternalError"))] * 2)
    await server.until_seen("PUT", 4)
    assert leader.elector.leading
    assert leader.cancelled_at is None
    await leader.kill()


async def test_lease_taken_by_another_ends_the_leader(api: HttpKubeApi, server: FaultServer) -> None:
    leader = Leader(api, "one", duration=30)
    await leader.leads()
    stolen = dict(lease(server), holderIdentity="thief")
    await server.put("leases", "lock", spec=stolen)
    async with asyncio.timeout(20):
        with pytest.raises(LeadershipLost, match="thief"):
            await leader.task
    assert lease(server)["holderIdentity"] == "thief"


async def test_foreign_edit_of_the_lease_does_not_end_the_leader(api: HttpKubeApi, server: FaultServer) -> None:
    leader = Leader(api, "one")
    await leader.leads()
    await server.put("leases", "lock", metadata={"annotations": {"note": "x"}})
    await server.until_seen("PUT", server.count("PUT") + 3)
    assert leader.elector.leading
    assert server.collections["leases"].items["d", "lock"]["metadata"]["annotations"] == {"note": "x"}
    await leader.kill()


async def test_deleted_lease_is_made_again(api: HttpKubeApi, server: FaultServer) -> None:
    leader = Leader(api, "one")
    await leader.leads()
    posts = server.count("POST")
    await server.remove("leases", "lock")
    await server.until_seen("POST", posts + 1)
    assert leader.elector.leading
    await leader.kill()


async def test_lease_that_is_deleted_is_left_to_its_holder_for_as_long_as_it_would_have_lasted(
    api: HttpKubeApi, server: FaultServer
) -> None:
    first = Leader(api, "one", duration=60)
    await first.leads()
    second = Leader(api, "two", duration=60)
    await server.until_seen("GET", server.count("GET") + 2)
    await first.kill()
    await server.remove("leases", "lock")
    posts = server.count("POST")
    async with asyncio.timeout(20):
        await server.until_seen("GET", server.count("GET") + 3)
    assert (server.count("POST"), second.began.is_set()) == (posts, False)
    second.elector._observed_at -= 60  # as if a minute had passed
    await second.leads()
    await second.kill()


async def test_two_that_take_an_expired_lease_at_once_do_not_both_lead(api: HttpKubeApi, server: FaultServer) -> None:
    await server.put("leases", "lock", spec={"holderIdentity": "", "leaseDurationSeconds": 1})
    rivals = [Leader(api, f"r{number}", duration=30) for number in range(8)]
    await server.until_seen("PUT", 8)
    await asyncio.wait([asyncio.create_task(r.leads()) for r in rivals], return_when=asyncio.FIRST_COMPLETED)
    assert sum(rival.began.is_set() for rival in rivals) == 1
    for rival in rivals:
        await rival.kill()


async def test_renewal_that_was_written_but_not_answered_is_recognised(api: HttpKubeApi, server: FaultServer) -> None:
    leader = Leader(api, "one")
    await leader.leads()

    async def write_and_hang_up(request):
        await server._route(request)
        request.transport.abort()
        return status(500, "never sent")

    server.script("PUT", write_and_hang_up)
    await server.until_seen("PUT", server.count("PUT") + 3)
    assert leader.elector.leading
    await leader.kill()


async def test_a_lease_lasts_from_the_request_and_not_from_its_answer(api: HttpKubeApi, server: FaultServer) -> None:
    """The others count from the write, which was somewhere in between."""
    leader = Leader(api, "one", duration=30)
    await leader.leads()
    arrived: list[float] = []

    async def answer_late(request):
        arrived.append(time.monotonic())
        answer = await server._route(request)
        await asyncio.sleep(0.2)
        return answer

    async def never(_):
        await asyncio.Event().wait()

    server.script("PUT", answer_late, never)
    await server.until_seen("PUT", server.count("PUT") + 2)
    assert leader.elector._renewed_at <= arrived[0]
    await leader.kill()


async def test_frozen_process_knows_at_once_that_it_may_not_act(api: HttpKubeApi, server: FaultServer) -> None:
    leader = Leader(api, "one")
    await leader.leads()
    assert leader.elector.leading
    time.sleep(1.2)  # noqa: ASYNC251 - as SIGSTOP: no task of this process runs, then all of them do
    assert not leader.elector.leading
    await leader.kill()


@pytest.mark.parametrize("timing", [(10, 15, 2), (15, 10, 9), (15, 10, 0)])
def test_timing_that_allows_two_leaders_is_refused(timing: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="renew deadline"):
        LeaseTiming(*timing)


def test_identity_is_demanded() -> None:
    with pytest.raises(ValueError, match="identity"):
        LeaseElector(None, "d", "lock", "")


def test_leases_are_served_by_the_coordination_group() -> None:
    assert LEASES.path("d", "lock") == "/apis/coordination.k8s.io/v1/namespaces/d/leases/lock"
