"""One replica works, the others stand by: a Lease taken and kept by compare-and-swap.

After client-go's leaderelection. Time is measured on this machine's monotonic clock only: how long ago *we* last
saw the lease change. Neither leader election of kubernetes 37 does for this: both keep working while the API
server does not answer, and then two leaders write.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError, Object
from finetune_operator.kube.metrics import LEADER
from finetune_operator.kube.resources import LEASES
from finetune_operator.kube.timestamps import rfc3339_micro, utc_now

log = logging.getLogger(__name__)


STANDBY_POLL = 0.7
"""Seconds at most between two looks of a standby: it leads within a second of a clean exit."""


class LeadershipLost(Exception):
    """The lease could not be renewed in time, or another process holds it: end this process."""


@dataclass(frozen=True)
class LeaseTiming:
    """Seconds. A leader that can't renew for `renew_deadline` stops; others may take over after `lease_duration`.

    A standby sees each renewal and each expiry up to one poll late: by these numbers it leads within 15 s of a crash.
    """

    lease_duration: float = 12.0
    renew_deadline: float = 8.0
    retry_period: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry_period * 1.2 < self.renew_deadline < self.lease_duration:
            raise ValueError(
                "leader election needs 1.2 × retry period < renew deadline < lease duration, got "
                f"{self.retry_period}, {self.renew_deadline}, {self.lease_duration}"
            )


class LeaseElector:
    """Competes for one Lease and runs the work while it holds it."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        name: str,
        identity: str,
        lease_duration: float = LeaseTiming.lease_duration,
        renew_deadline: float = LeaseTiming.renew_deadline,
        retry_period: float = LeaseTiming.retry_period,
    ) -> None:
        if not identity:
            raise ValueError("leader election needs an identity that no other replica has")
        self.identity = identity
        self._api = api
        self._namespace, self._name = namespace, name
        self._timing = LeaseTiming(lease_duration, renew_deadline, retry_period)
        self._lease: Object | None = None
        self._observed_at = 0.0
        self._renewed_at = float("-inf")
        self._leading = False
        self._gauge = LEADER.labels(name)
        self._gauge.set(0)

    @property
    def leading(self) -> bool:
        """True while this process may act: it holds the lease and renewed it within the deadline.

        Also right after this process was frozen, before the renewing task had its turn.
        """
        return self._leading and time.monotonic() < self._renewed_at + self._timing.renew_deadline

    def check(self) -> None:
        """Raises LeadershipLost when this process may not act, or not any more."""
        if not self.leading:
            raise LeadershipLost("the lease was not renewed in time")

    async def run(self, on_started: Callable[[], Awaitable[None]]) -> None:
        """Waits for the lease, runs `on_started` while holding it, and releases it when that returns.

        Raises LeadershipLost, after `on_started` was cancelled, when the lease is lost.
        """
        await self._acquire()
        work = asyncio.ensure_future(on_started())
        renewing = asyncio.create_task(self._renew_until_lost(), name="lease-renewal")
        try:
            await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return
            self._step_down()
            await self._cancel(work)
            renewing.result()  # raises
        finally:
            renewing.cancel()
            await self._cancel(work)
            await self._release()

    async def _acquire(self) -> None:
        log.info("waiting for lease %s/%s as %s", self._namespace, self._name, self.identity)
        while True:
            if await self._attempt(self._timing.renew_deadline):
                break
            await asyncio.sleep(min(self._timing.retry_period, STANDBY_POLL) * (1 + random.random() * 0.2))
        self._leading = True
        self._gauge.set(1)
        log.info("holding lease %s/%s", self._namespace, self._name)

    async def _renew_until_lost(self) -> None:
        while True:
            await asyncio.sleep(self._timing.retry_period)
            deadline = self._renewed_at + self._timing.renew_deadline
            while not await self._attempt(deadline - time.monotonic()):
                if self._holder() not in ("", self.identity):
                    raise LeadershipLost(f"lease {self._name} is held by {self._holder()}")
                if time.monotonic() >= deadline:
                    raise LeadershipLost(f"lease {self._name} not renewed for {self._timing.renew_deadline} s")
                rest = max(0.0, deadline - time.monotonic())
                await asyncio.sleep(min(self._timing.retry_period, rest))

    async def _attempt(self, seconds: float) -> bool:
        """One try to take or renew. Half the deadline at most for one try: a hung connection gets another one."""
        if seconds <= 0:
            return False
        started = time.monotonic()
        try:
            async with asyncio.timeout(min(seconds, self._timing.renew_deadline / 2)):
                held = await self._take_or_renew()
        except TimeoutError:
            log.warning("lease %s: no answer from the API server", self._name)
            return False
        except ApiError as error:
            log.warning("lease %s: %s", self._name, error)
            self._lease = None if error.conflict else self._lease
            return False
        if held:
            self._renewed_at = started  # not when the answer came: the others' clocks may run from the write
        return held

    async def _take_or_renew(self) -> bool:
        if self._leading and self._lease is not None:
            try:
                self._observe(await self._api.replace(LEASES, self._claim(self._lease)))
                return True
            except ApiError as error:
                if not (error.conflict or error.not_found):
                    raise
        try:
            self._observe(await self._api.get(LEASES, self._name, self._namespace))
        except ApiError as error:
            if not error.not_found:
                raise
            if self._held_by_another():
                return False  # deleted by hand: its holder believes in it until its next renewal, and makes it again
            self._observe(await self._api.create(LEASES, self._claim(None)))
            return True
        if self._held_by_another():
            return False
        assert self._lease is not None
        self._observe(await self._api.replace(LEASES, self._claim(self._lease)))
        return True

    def _observe(self, lease: Object) -> None:
        before = self._lease
        if before is None or before["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
            if before is None or before.get("spec") != lease.get("spec"):
                self._observed_at = time.monotonic()
            self._lease = lease

    def _holder(self) -> str:
        spec = (self._lease or {}).get("spec") or {}
        return spec.get("holderIdentity") or ""

    def _held_by_another(self) -> bool:
        if self._holder() in ("", self.identity):
            return False
        assert self._lease is not None
        duration = self._lease["spec"].get("leaseDurationSeconds") or self._timing.lease_duration
        return self._leading or time.monotonic() < self._observed_at + duration

    def _claim(self, lease: Object | None) -> Object:
        now = rfc3339_micro(utc_now())
        spec = dict((lease or {}).get("spec") or {})
        if spec.get("holderIdentity") != self.identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = (spec.get("leaseTransitions") or 0) + 1 if lease else 0
        spec["holderIdentity"] = self.identity
        spec["renewTime"] = now
        # The API holds whole seconds; rounding up errs on the side of waiting longer.
        spec["leaseDurationSeconds"] = max(1, -int(-self._timing.lease_duration // 1))
        return self._body(lease, spec)

    def _body(self, lease: Object | None, spec: Object) -> Object:
        metadata = (
            {k: v for k, v in lease["metadata"].items() if k != "managedFields"}
            if lease
            else {"name": self._name, "namespace": self._namespace}
        )
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}

    def _step_down(self) -> None:
        self._leading = False
        self._gauge.set(0)

    async def _cancel(self, work: "asyncio.Future[None]") -> None:
        """Cancelled work has until the lease may be another's to end; then the process ends over its head."""
        work.cancel()
        margin = self._timing.lease_duration - self._timing.renew_deadline
        _, pending = await asyncio.wait({work}, timeout=margin)
        if pending:
            log.error("work did not stop within %.0f s of losing the lease", margin)

    async def _release(self) -> None:
        """Gives the lease back so that a standby takes over at once. Only after all work has stopped."""
        if not self._leading or self._lease is None:
            return
        self._step_down()
        try:
            async with asyncio.timeout(self._timing.renew_deadline / 2):
                await self._give_back(self._lease)
            log.info("released lease %s/%s", self._namespace, self._name)
        except (ApiError, TimeoutError) as error:
            log.warning("lease %s not released, it will run out: %s", self._name, error)

    async def _give_back(self, lease: Object) -> None:
        try:
            await self._api.replace(LEASES, self._vacant(lease))
        except ApiError as error:
            if not error.conflict:
                raise
            # A renewal that we cancelled may have reached the server.
            lease = await self._api.get(LEASES, self._name, self._namespace)
            if lease["spec"].get("holderIdentity") == self.identity:
                await self._api.replace(LEASES, self._vacant(lease))

    def _vacant(self, lease: Object) -> Object:
        now = rfc3339_micro(utc_now())
        return self._body(lease, dict(lease["spec"], holderIdentity="", leaseDurationSeconds=1, renewTime=now))
