"""finetune_* metrics over a real informer's handlers and cache."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from controllers.cluster_user import ClusterUser
from controllers.operator_under_test import OperatorUnderTest
from finetune_operator.plan.timestamps import parse_time
from finetune_operator.web.metrics import PHASES, JobMetrics
from plan.builders import last_words
from promlint import problems

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


class Scrape:
    def __init__(
        self, operator: OperatorUnderTest, leading: Callable[[], bool] = lambda: True, *, pods_report: bool = True
    ) -> None:
        self.registry = CollectorRegistry()
        JobMetrics([operator.caches.fine_tune_jobs], self.registry, leading, pods_report=pods_report)

    def text(self) -> str:
        return generate_latest(self.registry).decode()

    def samples(self) -> Samples:
        found: Samples = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    def value(self, series: str, /, **labels: str) -> float | None:
        return self.samples().get(series, {}).get(tuple(sorted(labels.items())))


@pytest.fixture
def scrape(operator: OperatorUnderTest) -> Scrape:
    return Scrape(operator)


async def report(user: ClusterUser, **progress: Any) -> None:
    from finetune_local import timestamps
    from finetune_operator.kinds import FINE_TUNE_JOBS

    body = {"status": {"progress": {"updatedAt": timestamps.now(), **progress}}}
    await user.api.patch(FINE_TUNE_JOBS, "tickets", body, "ml", subresource="status")


async def test_a_jobs_life_in_numbers(user: ClusterUser, operator: OperatorUnderTest, scrape: Scrape) -> None:
    await user.apply()
    await user.phase("Running")
    await report(user, step=25, totalSteps=100, percent=25.0, loss=0.5, tokensPerSecond=900.0)
    await cached(operator, "progress")
    job = {"namespace": "ml", "name": "tickets"}
    assert scrape.value("finetune_jobs", phase="Running") == 1
    assert scrape.value("finetune_job_progress_ratio", **job) == 0.25
    assert scrape.value("finetune_job_loss", **job) == 0.5
    assert scrape.value("finetune_job_tokens_per_second", **job) == 900
    heard = scrape.value("finetune_job_last_report_timestamp_seconds", **job, stage="")
    assert heard is not None
    assert abs(heard - time.time()) < 60
    assert scrape.value("finetune_job_queue_seconds_count") == 1
    assert scrape.value("finetune_job_time_to_first_step_seconds_count") == 1
    await user.end_pod((await user.pods())[1], 1, last_words("Crash", "x", 1))
    await user.phase("Running", attempt=2)
    await report(user, attempt=2, stage="Training", step=30)
    await user.finish_gang(2)
    await user.phase("Succeeded")
    await cached(operator, "completionTime")
    assert scrape.value("finetune_job_restarts_total", cause="Crash") == 1
    assert scrape.value("finetune_jobs_finished_total", result="Succeeded") == 1
    assert scrape.value("finetune_job_duration_seconds_count") == 1
    assert scrape.value("finetune_job_restart_recovery_seconds_count") == 1
    uses = {dict(labels)["use"] for labels in scrape.samples()["finetune_job_device_seconds_total"]}
    assert uses >= {"overhead", "unreported"}, "the first attempt's report named no attempt"
    assert scrape.value("finetune_jobs", phase="Running") == 0
    assert scrape.value("finetune_jobs", phase="Succeeded") == 1


def test_a_suspended_job_waits_for_its_user_not_for_a_place() -> None:
    registry = CollectorRegistry()
    metrics = JobMetrics([], registry, lambda: True)

    def job(phase: str, **status: Any) -> dict[str, Any]:
        times = {"Suspended": "2026-01-02T00:00:00Z", "Running": "2026-01-02T00:00:30Z"}
        conditions = [{"type": kind, "status": "False", "lastTransitionTime": time} for kind, time in times.items()]
        metadata = {"namespace": "ml", "name": "a", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
        return {"metadata": metadata, "status": {"phase": phase, "attempt": 1, "conditions": conditions, **status}}

    trains = job("Running", progress={"step": 1, "attempt": 1, "updatedAt": "2026-01-02T00:01:00Z"})
    metrics.on_change(job("Starting"), job("Running"))
    metrics.on_change(job("Running"), trains)
    assert registry.get_sample_value("finetune_job_queue_seconds_sum") == 30
    assert registry.get_sample_value("finetune_job_time_to_first_step_seconds_sum") == 60


async def cached(operator: OperatorUnderTest, field: str, value: Any = None, within: str = "") -> None:
    """Until the cache, which the metrics read, shows the field, with that value where one is given."""
    from controllers.cluster_user import eventually

    async def there() -> bool:
        job = operator.caches.fine_tune_jobs.get("ml", "tickets")
        status = (job or {}).get("status") or {}
        found = (status.get(within) or {} if within else status).get(field)
        return bool(found) and value in (None, found)

    async def dump() -> str:
        return str(operator.caches.fine_tune_jobs.get("ml", "tickets"))

    await eventually(there, field, dump)


async def test_a_finished_job_leaves_no_series_of_its_own(
    user: ClusterUser, operator: OperatorUnderTest, scrape: Scrape
) -> None:
    await user.apply()
    await user.phase("Running")
    await report(user, step=25, totalSteps=100, percent=25.0, loss=0.5)
    await user.finish_gang()
    await user.phase("Succeeded")
    await cached(operator, "completionTime")
    assert 'name="tickets"' not in scrape.text()


async def test_every_phase_is_there_from_the_beginning(scrape: Scrape) -> None:
    assert {dict(labels)["phase"] for labels in scrape.samples()["finetune_jobs"]} == set(PHASES)


async def test_counters_that_alerts_watch_are_there_before_the_first_count(scrape: Scrape) -> None:
    for cause in ("NodeLost", "Preempted", "Crash", "Unknown"):
        assert scrape.value("finetune_job_restarts_total", cause=cause) == 0
    for result in ("Succeeded", "Failed"):
        assert scrape.value("finetune_jobs_finished_total", result=result) == 0


async def test_a_job_that_has_never_reported_is_silent_since_its_pods_run(
    user: ClusterUser, operator: OperatorUnderTest, scrape: Scrape
) -> None:
    told_nothing = Scrape(operator, pods_report=False)
    await user.apply()
    running = await user.phase("Running")
    since = next(one for one in running["status"]["conditions"] if one["type"] == "Running")["lastTransitionTime"]
    await cached(operator, "phase", "Running")
    job = {"namespace": "ml", "name": "tickets"}
    moment = parse_time(since)
    assert moment
    assert scrape.value("finetune_job_last_report_timestamp_seconds", **job, stage="") == moment.timestamp()
    assert told_nothing.value("finetune_job_last_report_timestamp_seconds", **job, stage="") is None
    await report(user, step=1, totalSteps=10, updatedAt="2026-01-01T00:00:00Z")
    await cached(operator, "progress")
    heard = scrape.value("finetune_job_last_report_timestamp_seconds", **job, stage="")
    assert heard == moment.timestamp(), "what was heard of an attempt before counts no more"
    await report(user, attempt=1, step=2, totalSteps=10, stage="Evaluating")
    await cached(operator, "step", 2, within="progress")
    (labels,) = scrape.samples()["finetune_job_last_report_timestamp_seconds"]
    assert dict(labels)["stage"] == "Evaluating", "which may take its time"


async def test_a_standby_reports_no_jobs(user: ClusterUser, operator: OperatorUnderTest) -> None:
    standby = Scrape(operator, lambda: False)
    await user.apply()
    await user.phase("Running")
    assert standby.value("finetune_jobs", phase="Running") == 0
    assert standby.value("finetune_job_queue_seconds_count") == 0


async def test_names_are_clean_by_the_rules_of_promtool(scrape: Scrape) -> None:
    assert problems(scrape.text()) == []
