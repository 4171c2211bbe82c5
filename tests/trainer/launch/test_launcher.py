"""How the launcher of a pod turns the ends of its workers into one exit code and one message."""

import re
import signal
from pathlib import Path

import pytest

from finetune_operator.cli.ports import free_port
from trainer.launch.pods import Job, alive, await_that


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_an_error_of_one_rank_is_the_pods_and_its_peer_does_not_hang(job: Job) -> None:
    ended = job.run("1:2:bad_line")

    assert ended.code == 3
    said = ended.said()
    assert (said.outcome, said.message, said.rank, said.step) == ("DataError", "train.jsonl:3: not JSON", 1, 2)


def test_a_bug_is_a_crash_with_the_place_where_it_happened(job: Job) -> None:
    ended = job.run("0:2:crash", processes=1)

    assert ended.code == 1
    assert ended.said().outcome == "Crash"
    assert re.match(r"ZeroDivisionError: a bug \(at standin.py:\d+ crash < ", ended.said().message)


def test_stacks_of_every_worker_on_request_one_after_the_other(job: Job) -> None:
    ended = job.run("0:2:dump_stacks")

    assert ended.code == 0
    first, second = re.split(r"stacks of rank [01] \(process \d+\):\n", ended.log)[1:]
    assert re.search(r"standin.py\", line \d+ in dump_stacks", first)
    assert re.search(r"standin.py\", line \d+ in train", second)


def test_a_rank_that_is_stopped_hangs_the_gang_and_every_rank_shows_where(job: Job) -> None:
    job.hang_timeout, port = 2, free_port()
    first = job.start(nodes=2, node=0, port=port)
    second = job.start("3:4:SIGSTOP", nodes=2, node=1, port=port)

    ends = [first.wait(), second.wait()]

    assert [end.code for end in ends] == [76, 76]
    assert [end.said().outcome for end in ends] == ["Hang", "Hang"]
    one, other = (end.said() for end in ends)
    assert (other.rank, other.step) == (3, 3)
    assert "rank 3 stopped by a signal (T" in other.message
    assert {stack.rank for stack in one.stacks} == {0, 1}
    for stack in (*one.stacks, next(s for s in other.stacks if s.rank == 2)):
        assert re.search(r"ranks.py:\d+ maximum < stop.py:\d+ at < standin.py:\d+ train < worker.py", stack.text)
    assert ends[0].log.count("most recent call first") >= 2


def test_a_hang_is_found_while_a_stop_is_waited_for(job: Job) -> None:
    job.hang_timeout = 2
    pod = job.start("1:4:SIGSTOP")
    await_that(lambda: (job.root / "losses.1").exists() and len(job.losses(1)) == 4)

    pod.signal(signal.SIGTERM)
    ended = pod.wait(timeout=60)  # the grace is longer

    assert (ended.code, ended.said().rank) == (76, 1)


def test_a_worker_that_will_not_stop_is_killed_after_the_grace(job: Job) -> None:
    ended = job.run("0:2:never_stop", processes=1, FINETUNE_STOP_GRACE_SECONDS="2")

    assert ended.code == 75
    assert ended.said().outcome == "Preempted"
    assert "asked to stop; rank 0 was ended by SIGKILL after the grace" in ended.said().message
    assert "in never_stop" in ended.log


def test_no_worker_outlives_a_killed_launcher(job: Job) -> None:
    pod = job.start("0:2:launcher_sigkill")
    await_that(lambda: len(pod.children()) == 2)
    workers = pod.children()

    ended = pod.wait()

    assert ended.code == -signal.SIGKILL
    await_that(lambda: not any(alive(pid) for pid in workers))


def test_two_pods_stop_together_when_one_of_them_is_told_to(job: Job) -> None:
    port = free_port()
    first = job.start(nodes=2, node=0, port=port, processes=1, fault="")
    second = job.start(nodes=2, node=1, port=port, processes=1, fault="1:5:launcher_sigterm")

    ends = [first.wait(), second.wait()]

    assert [end.code for end in ends] == [75, 75]
    assert {end.said().step for end in ends} == {5}
    assert "step-00000005" in job.checkpoints()


def test_a_pod_that_is_told_to_stop_while_it_waits_for_the_others_does(job: Job) -> None:
    pod = job.start(nodes=2, node=0, port=free_port(), processes=1)
    await_that(lambda: len(list(Path(f"/proc/{pod.process.pid}/task").iterdir())) > 1)

    pod.signal(signal.SIGTERM)
    ended = pod.wait()

    assert ended.code == 75
    assert ended.said().outcome == "Preempted"
    assert ended.said().message.startswith("asked to stop while waiting for")


def test_pods_that_never_come_are_missed_after_a_while(job: Job) -> None:
    ended = job.run(nodes=2, node=1, port=free_port(), processes=1, FINETUNE_RENDEZVOUS_TIMEOUT_SECONDS="1")

    assert ended.code == 1
    assert re.search(r"the 2 pods did not meet at 127.0.0.1:\d+ within 1 s: ", ended.said().message)


def test_a_name_that_never_resolves_is_named(job: Job) -> None:
    ended = job.run(
        nodes=1,
        processes=1,
        PET_MASTER_ADDR="tickets-1-0.tickets-1.ml.svc.invalid",
        PET_MASTER_PORT="29999",
        FINETUNE_RENDEZVOUS_TIMEOUT_SECONDS="1",
    )

    assert ended.code == 1
    assert "tickets-1-0.tickets-1.ml.svc.invalid did not resolve within 1 s" in ended.said().message
    assert ended.log.count("waiting for tickets-1-0.tickets-1.ml.svc.invalid to resolve") == 1
