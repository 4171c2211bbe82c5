"""One job, plan after plan."""

from typing import Any

from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.world import Plan
from plan.builders import follow, job, snapshot_of, world

Resource = dict[str, Any]


class Story:
    """Each step plans for what the controller sees then, and writes the status that comes of it."""

    def __init__(self, around: Resource | None = None, **changes: Any) -> None:
        """`around` is there at every step, `changes` are fields of the job's spec."""
        self.item = job(**changes)
        self.around = around or {}
        self.now = 0.0
        self.plan: Plan | None = None

    def step(
        self, jobs: list[Resource] | None = None, pods: list[Resource] | None = None, seconds: float = 10, **more: Any
    ) -> Plan:
        """So many seconds after the step before; `more` is there at this one."""
        self.now += seconds
        taken = {} if self.plan is None else {"snapshot": snapshot_of(self.item)}
        self.plan = plan_job(world(self.item, jobs, pods, self.now, **self.around, **(taken | more)))
        self.item = follow(self.item, self.plan)
        return self.plan
