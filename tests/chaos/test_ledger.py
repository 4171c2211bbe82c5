"""The ledger finds what it is there to find."""

from typing import Any

import pytest

from chaos.belongings import (
    ACCOUNT,
    BATCH_JOB,
    FINE_TUNE_JOB,
    MODEL_VERSION,
    NO_OBJECTS,
    OF_CONTROLLERS,
    POD,
    POLICY,
    RULES,
    Belongs,
    Key,
    may_create,
)
from chaos.ledger import Ledger
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
        body = {"metadata": {"name": "a", "namespace": "ml", "uid": "u"}, "spec": spec, "status": status}
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

    def pod_ended(self, attempt: int, exit_code: int) -> None:
        labels = {LABEL_JOB: "a", LABEL_ATTEMPT: str(attempt)}
        owner = [{"kind": "Job", "name": f"a-{attempt}", "uid": "j", "controller": True}]
        metadata = {"name": f"a-{attempt}-0", "namespace": "ml", "labels": labels, "ownerReferences": owner}
        status = {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": exit_code}}}]}
        self.store.put(POD, "ml", metadata["name"], {"metadata": metadata, "status": status})

    def version(self, name: str, *, job: str, **metadata: Any) -> None:
        body = {"metadata": {"name": name, "namespace": "ml"} | metadata, "spec": {"job": {"uid": job}}}
        self.store.put(MODEL_VERSION, "ml", name, body)

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


@pytest.mark.parametrize("key", [key for key in RULES if RULES[key] is Belongs.TO_AN_OWNER], ids="/".join)
def test_a_child_that_nobody_owns_and_one_that_stays_are_found(cluster: Cluster, key: Key) -> None:
    cluster.job()
    cluster.child(key, "stray", 1, owned=False)
    assert "nobody owns it" in cluster.wrongs
    assert cluster.ledger.left() == [f"{key[1]} stray"]
    cluster.store.remove(key, "ml", "stray", {"metadata": {}})
    assert cluster.ledger.left() == []


def test_every_kind_that_the_operator_may_create_has_a_rule() -> None:
    assert may_create() - NO_OBJECTS == set(RULES) - OF_CONTROLLERS


def test_what_belongs_to_a_namespace_is_told_from_what_belongs_to_a_job(cluster: Cluster) -> None:
    cluster.job()
    cluster.child(POLICY, "a-training", 1)
    cluster.child(ACCOUNT, "default", 1, owned=False)
    cluster.child(ACCOUNT, "finetune-trainer", 1, owned=False)
    cluster.store.put(POLICY, "ml", "finetune-trainer-0f", {"metadata": {"name": "finetune-trainer-0f"}})
    assert cluster.wrongs == ""
    assert cluster.ledger.left() == ["networkpolicies a-training"]
    cluster.child(POLICY, "b-training", 1, owned=False)
    assert "nobody owns it, and it is not shared" in cluster.wrongs
    cluster.child(ACCOUNT, "finetune-trainer-2", 1, owned=False)
    assert "of these a namespace has one, finetune-trainer" in cluster.wrongs


def test_versions_outlive_their_job_which_has_one(cluster: Cluster) -> None:
    cluster.job()
    cluster.version("a-1", job="u")
    cluster.job(modelVersion="a-1")
    assert cluster.wrongs == ""
    assert cluster.ledger.left() == []
    cluster.version("a-2", job="u")
    assert "its job has published a-1" in cluster.wrongs
    cluster.version("b-1", job="v", ownerReferences=[{"uid": "v"}])
    assert "it would go with its owner" in cluster.wrongs
    cluster.job(modelVersion="b-1")
    assert "ModelVersion b-1 is not there, or another job's" in cluster.wrongs


def test_attempts_are_counted_by_cause_whatever_the_status_says_of_restarts(cluster: Cluster) -> None:
    cluster.job(attempt=1)
    for number in range(1, 5):
        assert cluster.wrongs == ""
        cluster.pod_ended(number, 3)
        attempts = [{"number": one, "endedAt": "t", "cause": "BadData"} for one in range(1, number + 1)]
        cluster.job(attempt=number, attempts=attempts, restarts={"total": number})
    assert cluster.wrongs.endswith("4 attempts ended by BadData, allowed are 2 restarts")


def test_no_user_is_blamed_for_what_the_trainer_did_not_say(cluster: Cluster) -> None:
    cluster.job(attempt=1)
    cluster.pod_ended(1, 137)
    cluster.job(attempt=1, attempts=[{"number": 1, "endedAt": "t", "cause": "HostOutOfMemory"}])
    assert "attempt 1: HostOutOfMemory, though its pods ended with [137]" in cluster.wrongs
