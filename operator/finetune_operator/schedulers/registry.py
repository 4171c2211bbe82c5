"""Schedulers by the name they have in a runtime's `scheduler`."""

from finetune_operator.schedulers.coscheduling import Coscheduling
from finetune_operator.schedulers.default import DefaultScheduler
from finetune_operator.schedulers.kueue import Kueue
from finetune_operator.schedulers.native import Native
from finetune_operator.schedulers.scheduler import Scheduler
from finetune_operator.schedulers.volcano import Volcano

SCHEDULERS: dict[str, Scheduler] = {
    "Default": DefaultScheduler(),
    "Kueue": Kueue(),
    "Volcano": Volcano(),
    "Coscheduling": Coscheduling(),
    "Native": Native(),
}
QUEUEING = ("Kueue", "Volcano")
"""The ones that have queues."""
