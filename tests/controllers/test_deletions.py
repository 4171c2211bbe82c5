"""For how long a pod is seen to be deleted, whatever the clocks of API server and operator say."""

from datetime import timedelta

from finetune_operator.controllers.deletions import DeletionsSeen
from plan.builders import NOW, indexed_job, job, pod, world

KEY = ("ml", "tickets")


def test_it_counts_from_the_first_look() -> None:
    clock = iter((100.0, 130.0, 160.0, 190.0, 200.0))
    seen = DeletionsSeen(lambda: next(clock))
    healthy = world(job(), [indexed_job()], [pod(0), pod(1)])
    going = world(job(), [indexed_job()], [pod(0), pod(1, deleting=NOW - timedelta(days=1))])
    assert seen.with_times(KEY, healthy).deleting_for == {}
    assert [seen.with_times(KEY, going).deleting_for for _ in range(2)] == [{"pod-1-1": 0.0}, {"pod-1-1": 30.0}]
    assert seen.with_times(("ml", "other"), going).deleting_for == {"pod-1-1": 0.0}
    seen.forget(KEY)
    assert seen.with_times(KEY, going).deleting_for == {"pod-1-1": 0.0}
