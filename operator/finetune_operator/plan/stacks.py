"""Stacks of the ranks of a gang that hung, gathered from the last words of all its pods."""

from finetune_api.reports import RankStack
from finetune_operator.plan.observation import AttemptFacts
from finetune_operator.plan.status_draft import StatusDraft
from finetune_operator.plan.world import Resource

KEPT_RANKS = 16
TEXT_LIMIT = 512


def note_stacks(draft: StatusDraft, facts: AttemptFacts) -> None:
    """Adds what the pods tell to the current attempt's entry; a pod that told may be gone by the next look.

    Of earlier attempts they are dropped: the logs have them in full.
    """
    record = draft.record
    told = [_stack(one) for pod in facts.pods if pod.message for one in pod.message.stacks]
    if record is None or not told:
        return
    known = {one["rank"]: one for one in (*(record.get("stacks") or []), *told)}
    record["stacks"] = sorted(known.values(), key=_suspects_first)[:KEPT_RANKS]
    for earlier in draft.status["attempts"][:-1]:
        earlier.pop("stacks", None)


def _stack(one: RankStack) -> Resource:
    entry = {"rank": one.rank, "state": one.state, "text": one.text[:TEXT_LIMIT]}
    return {name: value for name, value in entry.items() if value != ""}


def _suspects_first(entry: Resource) -> tuple[bool, int]:
    return "state" not in entry, int(entry["rank"])
