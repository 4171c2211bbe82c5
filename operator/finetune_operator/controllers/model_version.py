"""The ModelVersion controller: keeps `status.approved`."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from finetune_api.names import FIELD_MANAGER
from finetune_operator.controllers.carry_out import merge_patch
from finetune_operator.kinds import MODEL_VERSIONS
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key
from finetune_operator.kube.events import EventRecorder, EventType
from finetune_operator.kube.expectations import Expectations
from finetune_operator.kube.informer import Informer
from finetune_operator.plan.model_version import INVALID_SPEC, model_version_status

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


class ModelVersionReconciler:
    """Brings the status of one ModelVersion up to date."""

    def __init__(
        self,
        api: KubeApi,
        versions: Sequence[Informer],
        recorder: EventRecorder,
        expectations: Expectations,
        clock: Clock = utc_now,
    ) -> None:
        self._api = api
        self._versions = {informer.namespace: informer for informer in versions}
        self._recorder = recorder
        self._expectations = expectations
        self._clock = clock

    async def reconcile(self, key: Key) -> None:
        """One compare-and-swap of the status, when it is not right already."""
        informer = self._versions.get(key[0]) or self._versions[None]
        version = informer.get(*key)
        if version is None:
            self._expectations.forget(key)
            return
        before: dict[str, Any] = version.get("status") or {}
        after = model_version_status(version, self._clock())
        patch = merge_patch(before, after)
        if version["metadata"].get("deletionTimestamp") or not patch:
            return
        body = {"metadata": {"resourceVersion": version["metadata"]["resourceVersion"]}, "status": patch}
        written = await self._api.patch(
            MODEL_VERSIONS, key[1], body, key[0], subresource="status", field_manager=FIELD_MANAGER
        )
        self._expectations.expect(key, MODEL_VERSIONS.kind, written)
        if after["approved"] != before.get("approved") and by_a_person(version, after):
            condition = after["conditions"][-1]
            event_type: EventType = "Warning" if condition["reason"] == INVALID_SPEC else "Normal"
            self._recorder.record(version, event_type, condition["reason"], condition["message"])


def by_a_person(version: dict[str, Any], status: dict[str, Any]) -> bool:
    """Whether somebody approved it, has to, or has to mend it; `approval: Automatic` is no news to anyone."""
    return not (status["approved"] and version["spec"].get("approval") == "Automatic")


def build_controller(
    api: KubeApi, versions: Sequence[Informer], recorder: EventRecorder, *, workers: int = 4, clock: Clock = utc_now
) -> Controller:
    """The controller over the informers of all watched namespaces."""
    expectations = Expectations()
    reconciler = ModelVersionReconciler(api, versions, recorder, expectations, clock)
    controller = Controller("modelversion", reconciler.reconcile, workers=workers, expectations=expectations)
    for informer in versions:
        expectations.watch(informer)
        controller.watch(informer)
    return controller
