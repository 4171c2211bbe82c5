"""The ledger finds what it is there to find."""

from typing import Any

import pytest

from chaos.ledger import BATCH_JOB, FINE_TUNE_JOB, POD, Ledger
from finetune_api.names import LABEL_ATTEMPT, LABEL_JOB
from finetune_local.apiserver.revision_store import RevisionStore

Resource = dict[str, Any]
FINISHED = [{"type": "Failed", "status": "True"}]
RUNNING = {"attempt": 2, "restarts": {"total": 1}, "attempts": [{"number": 1, "endedAt": "t", "cause": "Crash"}]}


class Cluster:
    """A store whose writes the ledger hears."""

    def __init__(self) -> None:
        self.store = RevisionStore()
        self.ledger = Ledger(self.store)

    def job(self, **status: Any) -> None:
        spec = {"failurePolicy": {"maxRestarts": {"user": 2}}}
        body = {"metadata": {"name": "a", "uid": "u"}, "spec": spec, "status": status}
        self.store.put(FINE_TUNE_JOB, "ml", "a", body)

    def child(self, key: tuple[str, str], name: str, attempt: int, *, owned: bool = True, phase: str = "") -> None:
        owner = [{"kind": "FineTuneJob", "name": "a", "uid": "u", "controller": True}]
        metadata = {
            "name": name,
            "namespace": "ml",
            "labels": {LABEL_JOB: "a", LABEL_ATTEMPT: str(attempt)},
            "ownerReferences": owner if owned else [],
        }
        self.store.put(key, "ml", name, {"metadata": metadata, "status": {"phase": phase}})

    @property
    def wrongs(self) -> str:
        return "\n".join(self.ledger.violations)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        ({"phase": "Failed", "conditions": FINISHED}, {"phase": "Running", "conditions": FINISHED}, "finished, and"),
        ({"attempt": 2}, {"attempt": 1}, "attempt went from 2"),
        ({"attempt": 1}, {"attempt": 3, "attempts": [{"number": 3}]}, "attempt jumped"),
        ({"observedGeneration": 2}, {"observedGeneration": 1}, "observedGeneration went"),
        ({"restarts": {"total": 1}}, {"restarts": {"total": 0}}, "restarts after total went"),
        ({"restarts": {"byCause": {"Crash": 1}}}, {"restarts": {"byCause": {}}}, "restarts after Crash went"),
        ({}, {"restarts": {"total": 3, "byCause": {"BadData": 3}}}, "3 restarts after BadData, allowed are 2"),
        (RUNNING, {**RUNNING, "attempts": [{"number": 1, "cause": ""}]}, "attempt 1 had ended"),
        (RUNNING, {**RUNNING, "attempt": 3}, "attempt 3 after restarts"),
        ({"lastCheckpoint": {"step": 9}}, {"lastCheckpoint": {"step": 5}}, "checkpoint of step 9 became"),
        ({"lastCheckpoint": {"step": 9}}, {}, "checkpoint of step 9 became None"),
        ({"progress": {"attempt": 1, "step": 9}}, {"progress": {"attempt": 1, "step": 5}}, "progress of step 9"),
        ({"progress": {"attempt": 2, "step": 9}}, {"progress": {"attempt": 1, "step": 50}}, "progress of step 9"),
        (
            {**RUNNING, "lastCheckpoint": {"step": 9}},
            {"attempt": 3, "restarts": {"total": 2}, "attempts": [{"number": 3}], "lastCheckpoint": {"step": 9}},
            "resumes from None though step 9 is saved",
        ),
    ],
)
def test_a_status_that_goes_back_is_found(cluster: Cluster, before: Resource, after: Resource, wrong: str) -> None:
    cluster.job(**before)
    assert cluster.wrongs == ""
    cluster.job(**after)
    assert wrong in cluster.wrongs


def test_a_gang_of_a_finished_job_is_found(cluster: Cluster) -> None:
    cluster.job(conditions=FINISHED)
    cluster.child(BATCH_JOB, "a-2", 2)
    assert "a gang of a finished job" in cluster.wrongs


def test_a_second_gang_is_found_and_one_after_the_other_is_not(cluster: Cluster) -> None:
    cluster.job(attempt=1)
    cluster.child(POD, "a-1-0", 1, phase="Running")
    cluster.child(POD, "a-1-0", 1, phase="Failed")
    cluster.child(POD, "a-2-0", 2, phase="Running")
    assert cluster.wrongs == ""
    cluster.child(POD, "a-3-0", 3, phase="Pending")
    assert "a second gang: a-2-0 of attempt 2 has not ended" in cluster.wrongs


def test_a_child_that_nobody_owns_and_one_that_stays_are_found(cluster: Cluster) -> None:
    cluster.child(POD, "stray", 1, owned=False)
    assert "nobody owns it" in cluster.wrongs
    assert cluster.ledger.left() == ["pods stray"]
    cluster.store.remove(POD, "ml", "stray", {"metadata": {}})
    assert cluster.ledger.left() == []
