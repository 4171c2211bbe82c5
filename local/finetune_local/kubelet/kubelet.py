"""Runs the pods that are bound to this machine's virtual nodes."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from finetune_local.kubelet.pod_context import KubeletSettings
from finetune_local.kubelet.pod_worker import PodWorker
from finetune_local.kubelet.statuses import Object as Object
from finetune_operator.kube.informer import Informer

log = logging.getLogger(__name__)

FINISHED = ("Succeeded", "Failed")


class Kubelet:
    """One for all virtual nodes: a worker for each pod, fed by the informer of pods."""

    def __init__(self, settings: KubeletSettings, pods: Informer, is_alive: Callable[[str], bool]) -> None:
        """`is_alive(node)` is False for nodes that vanished: their pods are left alone."""
        self.settings = settings
        self.workers: dict[str, PodWorker] = {}
        self._is_alive = is_alive
        self._siblings: dict[str, int] = defaultdict(int)
        self._closing: set[asyncio.Task[None]] = set()
        pods.add_handler(self._on_change)

    def _on_change(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None and (worker := self.workers.pop(old["metadata"]["uid"], None)):
                self._close(worker.destroy())
            return
        node = new["spec"].get("nodeName")
        if not node or not self._is_alive(node):
            return
        worker = self.workers.get(new["metadata"]["uid"])
        if worker is None:
            self._begin(new)
        elif worker.finished.is_set():
            worker.pod = new
            if new["metadata"].get("deletionTimestamp"):
                self._close(worker.delete_finished())
        else:
            worker.update(new)

    def _begin(self, pod: Object) -> None:
        worker = PodWorker(self.settings, pod, start_delay=self._stagger(pod))
        self.workers[worker.uid] = worker
        if (pod.get("status") or {}).get("phase") in FINISHED:
            worker.finished.set()
            if pod["metadata"].get("deletionTimestamp"):
                self._close(worker.delete_finished())
            return
        worker.start()

    def _stagger(self, pod: Object) -> float:
        owner = next((one["uid"] for one in pod["metadata"].get("ownerReferences") or []), "")
        position = self._siblings[owner]
        self._siblings[owner] += 1
        return position * self.settings.knobs.pod_stagger if owner else 0.0

    def _close(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: "asyncio.Task[None]") -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a pod could not be removed: %s", error, exc_info=error)

    def worker(self, namespace: str, name: str) -> PodWorker:
        """Raises KeyError when no such pod runs here."""
        for worker in self.workers.values():
            metadata = worker.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                return worker
        raise KeyError(f"pod {namespace}/{name} does not run here")

    def evict(self, namespace: str, name: str) -> None:
        """As under memory pressure: the pod becomes Failed with reason Evicted."""
        message = "The node was low on resource: memory."
        self.worker(namespace, name).evict("Evicted", message, disruption="TerminationByKubelet")

    async def vanish(self, node: str) -> None:
        """All processes of the node's pods die; nobody is told."""
        gone = [one for one in self.workers.values() if one.pod["spec"].get("nodeName") == node]
        await asyncio.gather(*(worker.vanish() for worker in gone))

    async def close(self) -> None:
        """Kills what runs, without changing any status."""
        await asyncio.gather(*(worker.vanish() for worker in self.workers.values()))
        await asyncio.gather(*self._closing, return_exceptions=True)
