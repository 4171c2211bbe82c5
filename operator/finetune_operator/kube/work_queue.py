"""client-go's work queue: one worker per key, additions coalesced, failures retried ever later."""

import asyncio
import heapq
import math
import random
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from finetune_operator.kube.metrics import (
    QUEUE_ADDS,
    QUEUE_DEPTH,
    QUEUE_LATENCY,
    QUEUE_LONGEST_RUNNING,
    QUEUE_RETRIES,
    QUEUE_UNFINISHED,
    QUEUE_WORK,
)

K = TypeVar("K", bound=Hashable)


class QueueShutDown(Exception):
    """No more keys will come."""


@dataclass(frozen=True)
class RateLimit:
    """Delays of rate-limited additions, in seconds: exponential per key, and one token bucket for all keys."""

    base: float = 0.005
    cap: float = 300.0
    per_second: float = 10.0
    burst: int = 100
    longest_turn: float = 30.0
    """Nobody waits longer for the others than this: one glitch that hits thousands of keys is over in as long."""


STALE_ENTRIES = 64
"""Times that were taken back may stay in the heap: so many, and as many again as there are keys in it."""


class TokenBucket:
    """`reserve(now)` takes a token, on credit if need be, and says how long to wait for it.

    Once the credit reaches `longest` seconds no more is given: who comes then waits a random part of that time.
    """

    def __init__(self, per_second: float, burst: int, longest: float = math.inf) -> None:
        self._longest = longest
        self._per_second = per_second
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = 0.0

    def reserve(self, now: float) -> float:
        self._refill(now)
        wait = max(0.0, (1 - self._tokens) / self._per_second)
        if wait > self._longest:
            return random.uniform(0.0, self._longest)
        self._tokens -= 1
        return wait

    def take(self, now: float) -> bool:
        """Takes a token if there is one."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _refill(self, now: float) -> None:
        if self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now


class WorkQueue(Generic[K]):
    """A key is waiting, being worked on, or both; never worked on twice at a time, never lost.

    Added while waiting: nothing changes. Added while a worker has it: it is given out again after `done`.
    """

    def __init__(self, name: str = "", limit: RateLimit | None = None) -> None:
        self._limit = limit or RateLimit()
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: dict[K, float] = {}
        self._added_at: dict[K, float] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._delayed: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._failures: dict[K, int] = {}
        self._bucket = TokenBucket(self._limit.per_second, self._limit.burst, self._limit.longest_turn)
        self._shut_down = False
        self._measure(name)

    def _measure(self, name: str) -> None:
        labels = (name, name)
        self._adds, self._retries = QUEUE_ADDS.labels(*labels), QUEUE_RETRIES.labels(*labels)
        self._latency, self._work = QUEUE_LATENCY.labels(*labels), QUEUE_WORK.labels(*labels)
        if name:
            QUEUE_DEPTH.labels(*labels).set_function(lambda: len(self))
            QUEUE_UNFINISHED.labels(*labels).set_function(lambda: sum(self._ages()))
            QUEUE_LONGEST_RUNNING.labels(*labels).set_function(lambda: max(self._ages(), default=0.0))

    def __len__(self) -> int:
        """Keys ready for a worker; those that wait for their time are not counted."""
        return len(self._ready)

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._due)

    def due_in(self, key: K) -> float | None:
        """Seconds until a delayed key is added; None when it has no time set."""
        due = self._due.get(key)
        return None if due is None else due - time.monotonic()

    @property
    def processing(self) -> frozenset[K]:
        return frozenset(self._processing)

    def add(self, key: K) -> None:
        if self._shut_down or key in self._dirty:
            return
        self._adds.inc()
        self._dirty.add(key)
        self._added_at[key] = time.monotonic()
        if key not in self._processing:
            self._make_ready(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Adds the key later; of several times for one key the earliest counts."""
        if self._shut_down:
            return
        if seconds <= 0:
            self.add(key)
            return
        due = time.monotonic() + seconds
        if self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._delayed, (due, self._sequence, key))
        self._drop_stale()
        if self._timer is None or self._delayed[0][2] == key:
            self._schedule()

    def drop_delayed(self, key: K) -> None:
        """Takes back `add_after`: what the key waited for is being done now."""
        self._due.pop(key, None)

    def _drop_stale(self) -> None:
        """A key that is reconciled often and due in days must not leave an entry each time."""
        if len(self._delayed) > 2 * len(self._due) + STALE_ENTRIES:
            self._delayed = [(due, number, key) for number, (key, due) in enumerate(self._due.items())]
            heapq.heapify(self._delayed)

    def add_rate_limited(self, key: K) -> None:
        """Adds the key after a delay that grows with its failures since the last `forget`."""
        self._retries.inc()
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        step = min(self._limit.cap, self._limit.base * 2 ** min(failures, 62))
        delay = step * (0.5 + random.random() / 2)
        self.add_after(key, max(delay, self._bucket.reserve(time.monotonic())))

    def forget(self, key: K) -> None:
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """Rate-limited additions since the last `forget`."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """The next key; it must be given back by `done`. Raises QueueShutDown."""
        while not self._ready:
            if self._shut_down:
                raise QueueShutDown
            await self._wait()
        if self._shut_down:
            raise QueueShutDown
        key = self._ready.popleft()
        self._dirty.discard(key)
        now = time.monotonic()
        self._processing[key] = now
        self._latency.observe(now - self._added_at.pop(key, now))
        return key

    async def _wait(self) -> None:
        getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._getters.append(getter)
        try:
            await getter
        except asyncio.CancelledError:
            if getter.done() and not getter.cancelled():
                self._wake_one()  # the key that woke us is another worker's now
            elif getter in self._getters:  # not so when it was passed over as cancelled already
                self._getters.remove(getter)
            raise

    def done(self, key: K) -> None:
        started = self._processing.pop(key, None)
        if started is not None:
            self._work.observe(time.monotonic() - started)
        if key in self._dirty:
            self._make_ready(key)

    def shut_down(self) -> None:
        """No key is taken in or given out any more; what workers hold they finish."""
        self._shut_down = True
        if self._timer:
            self._timer.cancel()
        while self._getters:
            self._wake_one()

    def _make_ready(self, key: K) -> None:
        self._ready.append(key)
        self._wake_one()

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _schedule(self) -> None:
        """One timer for the earliest delayed key."""
        loop = asyncio.get_running_loop()
        if self._timer:
            self._timer.cancel()
        delay = max(0.0, self._delayed[0][0] - time.monotonic())
        self._timer = loop.call_later(delay, self._release_due)

    def _release_due(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        if self._delayed:
            self._schedule()

    def _ages(self) -> list[float]:
        now = time.monotonic()
        return [now - started for started in list(self._processing.values())]  # a scrape has a thread of its own
