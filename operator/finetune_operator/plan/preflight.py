"""The condition Preflight: what pod 0 of the current attempt found before it loaded PyTorch and met the others.

The operator has no access to volumes, buckets or credentials, so pod 0 looks, at first: a report says that all is well,
the last words of a pod that ended for it say what is wrong.
"""

from finetune_api.reports import ProgressReport, ReportedPreflight
from finetune_operator.plan.conditions import Condition, find_condition, with_condition
from finetune_operator.plan.observation import AttemptFacts
from finetune_operator.plan.status_draft import StatusDraft

PREFLIGHT = "Preflight"
STATUSES = {"True": True, "False": False, "Unknown": None}


def await_preflight(draft: StatusDraft) -> None:
    """At the start of an attempt."""
    if draft.world.settings.progress_url is None:
        draft.set(PREFLIGHT, None, "NotReported", "the operator has no --progress-url; see the log of pod 0")
    else:
        draft.set(PREFLIGHT, None, "Pending", f"pod 0 of attempt {draft.attempt} has not reported yet")


def note_failed_preflight(draft: StatusDraft, facts: AttemptFacts) -> None:
    """Where that is what ended the attempt."""
    for pod in facts.pods:
        if pod.rank == 0 and pod.message and (found := pod.message.preflight):
            draft.set(PREFLIGHT, STATUSES[found.status], found.reason, found.message)


def with_preflight(conditions: list[Condition], found: ReportedPreflight, now: str) -> list[Condition]:
    """The conditions after a report; the same list when it says nothing new, or nobody waits for it."""
    before = find_condition(conditions, PREFLIGHT)
    if before is None or all(before.get(name) == value for name, value in found.wire().items()):
        return conditions
    return with_condition(
        conditions,
        PREFLIGHT,
        STATUSES[found.status],
        found.reason,
        found.message,
        now=now,
        generation=int(before.get("observedGeneration") or 0),
    )


def newer(known: ProgressReport, report: ProgressReport, *, is_news: bool) -> ProgressReport:
    """Of two reports the one to write, with what either says of the preflight, which is told once."""
    chosen, other = (report, known) if is_news else (known, report)
    if chosen.preflight or not other.preflight or chosen.attempt != other.attempt:
        return chosen
    return chosen.model_copy(update={"preflight": other.preflight})
