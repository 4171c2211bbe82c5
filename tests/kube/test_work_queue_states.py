"""The work queue against a model of it, over any sequence of calls and any lapse of time."""

import asyncio
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from finetune_operator.kube import work_queue
from finetune_operator.kube.work_queue import RateLimit, WorkQueue

KEYS = st.sampled_from("abc")
LIMIT = RateLimit(base=1.0, cap=64.0, per_second=1000.0, burst=1000)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its clock, and the queue's, move only when they are told to."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def turn(self) -> None:
        """Everything that is due."""
        for _ in range(3):
            self.run_until_complete(asyncio.sleep(0))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.turn()


class WorkQueueModel(RuleBasedStateMachine):
    """Waiting keys in their order, keys with a worker, keys that are to come again, keys that wait for their time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.clock = mock.patch.object(work_queue, "time", mock.Mock(monotonic=self.loop.time))
        self.clock.start()
        self.queue: WorkQueue[str] = WorkQueue("", LIMIT)
        self.waiting: list[str] = []
        self.working: set[str] = set()
        self.again: set[str] = set()
        self.due: dict[str, float] = {}
        self.failures: dict[str, int] = {}

    def teardown(self) -> None:
        """Nothing is lost: all that was added comes, and nothing else."""
        for key in list(self.working):
            self.done(key)
        self.let_time_pass(1000.0)
        while self.waiting:
            self.done(self.get())
        assert (len(self.queue), self.queue.delayed, self.queue.processing) == (0, 0, frozenset())
        self.clock.stop()
        self.loop.close()

    def _added(self, key: str) -> None:
        if key in self.working:
            self.again.add(key)
        elif key not in self.waiting:
            self.waiting.append(key)

    async def _call(self, method: str, *arguments: object) -> None:
        getattr(self.queue, method)(*arguments)

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.loop.run_until_complete(self._call("add", key))
        self._added(key)

    @rule(key=KEYS, seconds=st.integers(1, 20))
    def add_after(self, key: str, seconds: int) -> None:
        self.loop.run_until_complete(self._call("add_after", key, float(seconds)))
        self.due[key] = min(self.due.get(key, self.loop.now + seconds), self.loop.now + seconds)

    @rule(key=KEYS)
    def add_rate_limited(self, key: str) -> None:
        before = self.queue.due_in(key)
        self.loop.run_until_complete(self._call("add_rate_limited", key))
        step = min(LIMIT.cap, LIMIT.base * 2 ** self.failures.get(key, 0))
        wait = self.queue.due_in(key)
        assert wait is not None
        assert (before is not None and wait == before) or step / 2 <= wait <= step
        self.failures[key] = self.failures.get(key, 0) + 1
        self.due[key] = self.loop.now + wait

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.queue.forget(key)
        self.failures.pop(key, None)

    @rule(key=KEYS)
    def drop_delayed(self, key: str) -> None:
        self.queue.drop_delayed(key)
        self.due.pop(key, None)

    @precondition(lambda self: self.waiting)
    @rule()
    def take(self) -> None:
        self.get()

    def get(self) -> str:
        key = self.loop.run_until_complete(self.queue.get())
        assert key == self.waiting.pop(0), "first added, first served"
        self.working.add(key)
        return key

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.done(data.draw(st.sampled_from(sorted(self.working))))

    def done(self, key: str) -> None:
        self.queue.done(key)
        self.working.discard(key)
        if key in self.again:
            self.again.discard(key)
            self.waiting.append(key)

    @rule(seconds=st.floats(0.5, 30.0))
    def let_time_pass(self, seconds: float) -> None:
        self.loop.advance(seconds)
        for key, _ in sorted(
            ((key, at) for key, at in self.due.items() if at <= self.loop.now), key=lambda due: due[1]
        ):
            del self.due[key]
            self._added(key)
        self.waiting = sorted(self.waiting, key=list(self.queue._ready).index)  # equal times come in any order

    @invariant()
    def agrees(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert self.queue.processing == self.working
        assert self.queue.delayed == len(self.due)
        assert not set(self.waiting) & self.working, "a key is never with a worker and ready for another"
        assert {key: self.queue.failures(key) for key in self.failures} == self.failures


WorkQueueModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_the_queue_behaves_as_its_model_does = WorkQueueModel.TestCase
