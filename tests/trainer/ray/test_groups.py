"""How the launcher of a pod sees the workers that Ray started in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_api.reports import TerminationMessage
from finetune_trainer import termination
from finetune_trainer.launch.worker import memory_file, message_file
from finetune_trainer.ray import groups
from finetune_trainer.ray.worker import WorkerFailed, said_in
from finetune_trainer.stop import StopFlag

SIGN_ON = "import sys, time; from pathlib import Path; from finetune_trainer.ray.groups import sign_on; "


class Worker:
    """A process that signed on and waits."""

    def __init__(self, messages: Path, group: str, rank: int) -> None:
        code = f"{SIGN_ON} sign_on(Path({str(messages)!r}), {group!r}, {rank}); print(flush=True); time.sleep(600)"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert self.process.stdout
        self.process.stdout.readline()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def worker(tmp_path: Path):
    started = Worker(tmp_path, "2001", 1)
    yield started
    started.kill()


def test_no_worker_no_group(tmp_path: Path) -> None:
    assert groups.newest(tmp_path) is None


def test_a_worker_is_at_work_until_its_last_words(tmp_path: Path, worker: Worker) -> None:
    group = groups.newest(tmp_path)
    assert group is not None
    assert group.at_work() == {1: worker.process.pid}
    assert group.ends() == []
    words = TerminationMessage(outcome="Preempted", rank=1, step=7)
    termination.write(words, message_file(group.folder, 1))
    assert group.at_work() == {}
    (end,) = group.ends()
    assert (end.status, end.message, end.by_us) == (75, words, False)


def test_one_that_was_killed_left_none(tmp_path: Path, worker: Worker) -> None:
    group = groups.newest(tmp_path)
    assert group is not None
    memory_file(group.folder, 1).write_text("weights 8 MiB")
    worker.process.kill()
    os.waitid(os.P_PID, worker.process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet collected
    assert group.at_work() == {}
    (end,) = group.ends()
    assert (end.rank, end.status, end.message) == (1, -signal.SIGKILL, None)
    assert end.memory == "weights 8 MiB"


def test_workers_that_were_started_again_are_another_group(tmp_path: Path, worker: Worker) -> None:
    worker.kill()
    again = Worker(tmp_path, "2002", 1)
    try:
        group = groups.newest(tmp_path)
        assert group is not None
        assert group.at_work() == {1: again.process.pid}
        groups.kill(tmp_path)
        assert again.process.wait(10) == -signal.SIGKILL
    finally:
        again.kill()


def test_a_stop_is_a_file_that_the_workers_look_for(tmp_path: Path) -> None:
    stop = StopFlag(tmp_path / groups.STOP)
    assert not stop.requested
    (tmp_path / groups.STOP).touch()
    assert stop.requested


def test_last_words_survive_what_ray_makes_of_an_exception() -> None:
    from ray.train.v2._internal.util import construct_user_exception_with_traceback

    words = TerminationMessage(outcome="DataError", message='train.jsonl:3: not "JSON"\nat all', rank=1, step=2)
    text = ""
    try:
        raise WorkerFailed(words.model_dump_json(by_alias=True))
    except WorkerFailed as error:
        text = str(construct_user_exception_with_traceback(error))
    assert said_in(text) == words
    assert said_in("ray.exceptions.RayActorError: The actor died unexpectedly") is None
