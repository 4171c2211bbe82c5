"""finetune_* metrics: gauges computed from the cache at scrape time, counters and histograms from its changes.

Labels are bounded: a job's own name appears only while the job is unfinished, so nothing leaks when jobs go.
Only the replica that leads reports; sums over replicas are right.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from finetune_api.fine_tune_job import FineTuneJobStatus
from finetune_operator.kube.informer import Informer
from finetune_operator.plan.causes import Cause
from finetune_operator.plan.conditions import find_condition
from finetune_operator.plan.timestamps import parse_time
from finetune_operator.web.goodput import recovery_seconds, seconds_spent

Resource = dict[str, Any]
PHASES: tuple[str, ...] = get_args(FineTuneJobStatus.model_fields["phase"].annotation)
FINISHED = ("Succeeded", "Failed")
RESTARTED = [cause for cause in Cause if cause not in (Cause.SUCCEEDED, Cause.SUSPENDED, Cause.RESIZED)]
DURATIONS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 12 * 3600, 86400, 7 * 86400)
GAUGES = {
    "finetune_job_progress_ratio": "Share of the training that is done, 0 to 1; 1 also when it stopped early.",
    "finetune_job_loss": "Training loss that rank 0 last reported.",
    "finetune_job_tokens_per_second": "Training throughput over all ranks.",
    "finetune_job_stragglers": "Ranks that hold the others up.",
    "finetune_job_last_report_timestamp_seconds": (
        "Unix time at which rank 0 was last heard, or all pods ran if that was later; of jobs whose pods run. `stage` "
        "is what it did then, empty before its first report; while it trains, it reports all along."
    ),
}
"""Of one job each, in the order of `_numbers`."""
LAST_HEARD = "finetune_job_last_report_timestamp_seconds"


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a scrape tells of an unfinished job: kept, as 10,000 jobs cannot be decoded at each one."""

    namespace: str
    name: str
    stage: str
    """Of the attempt that runs; empty: it has not reported."""
    numbers: tuple[float | None, ...]


class JobMetrics(Collector):
    """Registers itself; `leading` tells whether this replica is the one that reports.

    The informers have the index `phase`; a scrape decodes none of their objects.
    """

    def __init__(
        self,
        informers: Sequence[Informer],
        registry: CollectorRegistry,
        leading: Callable[[], bool],
        *,
        pods_report: bool = True,
    ) -> None:
        self._informers = informers
        self._leading = leading
        self._pods_report = pods_report
        """Pods were told where to: one that never does is silent."""
        self.restarts = Counter("finetune_job_restarts", "Attempts started again.", ["cause"], registry=registry)
        self.finished = Counter("finetune_jobs_finished", "Jobs that ended.", ["result"], registry=registry)
        self.queued = _histogram(
            registry,
            "finetune_job_queue_seconds",
            "From creation, or the end of a suspension, until all pods of the first attempt run.",
        )
        self.first_step = _histogram(
            registry,
            "finetune_job_time_to_first_step_seconds",
            "From creation, or the end of a suspension, to the first training step.",
        )
        self.duration = _histogram(
            registry, "finetune_job_duration_seconds", "From the first start to the end, restarts included."
        )
        self.recovery = _histogram(
            registry,
            "finetune_job_restart_recovery_seconds",
            "From the end of a failed attempt until the next one trains; suspensions are not counted.",
        )
        self.devices = Counter(
            "finetune_job_device_seconds",
            "Time that running gangs held their devices, one a process, by what they did with it: training (steps "
            "that count), repeated (steps done again after a restart), overhead (start-up, evaluation, export, the "
            "time from the last report to the end), unreported. Goodput is training over the sum.",
            ["namespace", "use"],
            registry=registry,
        )
        # A counter that appears with its first count has not increased, as Prometheus sees it.
        for cause in RESTARTED:
            self.restarts.labels(cause)
        for result in FINISHED:
            self.finished.labels(result)
        self._furthest: dict[str, int] = {}
        """Step that each job has reached, over all its attempts, by uid. Standbys follow it too."""
        self._shown: dict[str, _Shown] = {}
        """By uid."""
        registry.register(self)
        for informer in informers:
            informer.add_handler(self.on_change)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Called by the registry at each scrape, in a thread of its own: it only copies what the loop keeps."""
        informers = self._informers if self._leading() else ()
        yield _by_phase(informers)
        shown = list(self._shown.values()) if informers else []
        for column, (name, text) in enumerate(GAUGES.items()):
            yield _by_job(name, text, column, shown)

    def on_change(self, old: Resource | None, new: Resource | None) -> None:
        """Counts a transition once: what was there at start-up already is history."""
        if old is not None and new is not None and self._leading():
            before, after = _status(old), _status(new)
            self._count_restart(before, after)
            self._observe_starts(new, before, after)
            self._observe_recovery(new, before, after)
            self._observe_end(before, after)
        self._follow(old, new)

    def _follow(self, old: Resource | None, new: Resource | None) -> None:
        for item in (old, new):
            if item is not None:
                self._show(item, over=item is not new or _status(item).get("phase") in FINISHED)
        if new is not None:
            uid = new["metadata"]["uid"]
            self._furthest[uid] = max(self._furthest.get(uid, 0), _step(_status(new)))
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            self._furthest.pop(old["metadata"]["uid"], None)

    def _show(self, job: Resource, *, over: bool) -> None:
        metadata = job["metadata"]
        if over:
            self._shown.pop(metadata["uid"], None)
        else:
            status = _status(job)
            numbers = _numbers(status, pods_report=self._pods_report)
            self._shown[metadata["uid"]] = _Shown(metadata["namespace"], metadata["name"], _stage(status), numbers)

    def _count_restart(self, before: Resource, after: Resource) -> None:
        known = (before.get("restarts") or {}).get("byCause") or {}
        for cause, count in ((after.get("restarts") or {}).get("byCause") or {}).items():
            self.restarts.labels(cause).inc(max(count - known.get(cause, 0), 0))

    def _observe_starts(self, job: Resource, before: Resource, after: Resource) -> None:
        wanted = _wanted_since(job, after)
        if wanted is None or after.get("attempt") != 1:
            return
        if after.get("phase") == "Running" != before.get("phase"):
            running = next(c for c in after["conditions"] if c["type"] == "Running")
            self.queued.observe(_seconds(wanted, running["lastTransitionTime"]))
        if _step(after) > 0 == _step(before):
            self.first_step.observe(_seconds(wanted, after["progress"]["updatedAt"]))

    def _observe_recovery(self, job: Resource, before: Resource, after: Resource) -> None:
        if (recovery := recovery_seconds(before, after)) is not None:
            self.recovery.observe(recovery)
        furthest = self._furthest.get(job["metadata"]["uid"], 0)
        for use, seconds in seconds_spent(before, after, furthest):
            self.devices.labels(job["metadata"]["namespace"], use).inc(seconds * _devices(job))

    def _observe_end(self, before: Resource, after: Resource) -> None:
        if after.get("phase") not in FINISHED or before.get("phase") in FINISHED:
            return
        self.finished.labels(after["phase"]).inc()
        started = parse_time(after.get("startTime"))
        if started:
            self.duration.observe(_seconds(started, after["completionTime"]))


def _histogram(registry: CollectorRegistry, name: str, text: str) -> Histogram:
    return Histogram(name, text, registry=registry, buckets=DURATIONS)


def _status(job: Resource) -> Resource:
    return job.get("status") or {}


def _stage(status: Resource) -> str:
    progress = status.get("progress") or {}
    return str(progress.get("stage") or "") if progress.get("attempt") == status.get("attempt") else ""


def _wanted_since(job: Resource, status: Resource) -> datetime | None:
    """Since when its first attempt has been to run: what was suspended waits for its user, not for a place."""
    created = parse_time(job["metadata"].get("creationTimestamp"))
    resumed = parse_time((find_condition(status.get("conditions") or [], "Suspended") or {}).get("lastTransitionTime"))
    return max(created, resumed) if created and resumed else created


def _step(status: Resource) -> int:
    return int((status.get("progress") or {}).get("step", 0))


def _devices(job: Resource) -> int:
    """One a process, as torchrun places them."""
    distributed = job["spec"].get("distributed") or {}
    return int(_status(job).get("nodes") or distributed.get("nodes", 1)) * int(distributed.get("processesPerNode", 1))


def _seconds(start: datetime, end: str) -> float:
    moment = parse_time(end)
    return max((moment - start).total_seconds(), 0.0) if moment else 0.0


def _by_phase(informers: Sequence[Informer]) -> GaugeMetricFamily:
    family = GaugeMetricFamily("finetune_jobs", "FineTuneJobs by phase.", labels=["phase"])
    for phase in PHASES:
        family.add_metric([phase], sum(len(one.names_by_index("phase", phase)) for one in informers))
    return family


def _numbers(status: Resource, *, pods_report: bool) -> tuple[float | None, ...]:
    """Of each gauge; None where there is nothing to tell."""
    progress = status.get("progress") or {}
    percent = progress.get("percent")
    return (
        None if percent is None else percent * 0.01,
        progress.get("loss"),
        progress.get("tokensPerSecond"),
        float(len(progress.get("stragglers") or [])) if progress else None,
        _last_heard(status, progress) if pods_report else None,
    )


def _last_heard(status: Resource, progress: Resource) -> float | None:
    running = find_condition(status.get("conditions"), "Running") or {}
    if running.get("status") != "True":
        return None
    moments = [parse_time(text) for text in (running["lastTransitionTime"], progress.get("updatedAt"))]
    return max(moment.timestamp() for moment in moments if moment)


def _by_job(name: str, text: str, column: int, jobs: list[_Shown]) -> GaugeMetricFamily:
    staged = name == LAST_HEARD
    family = GaugeMetricFamily(name, text, labels=["namespace", "name", *(["stage"] if staged else [])])
    for job in jobs:
        if (value := job.numbers[column]) is not None:
            family.add_metric([job.namespace, job.name, *([job.stage] if staged else [])], value)
    return family
