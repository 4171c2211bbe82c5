"""The life of one pod on its node: image, volumes, init containers, containers, and its end."""

import asyncio
import contextlib
import logging
import shutil
from typing import Any

from finetune_local import timestamps
from finetune_local.kubelet.container_runner import ContainerRunner
from finetune_local.kubelet.container_setup import build_spec, write_system_files
from finetune_local.kubelet.pod_context import KubeletSettings
from finetune_local.kubelet.sandbox.supervisor import Spec
from finetune_local.kubelet.statuses import ContainerRecord, PodRecord, pod_status
from finetune_local.kubelet.volume_contents import VolumeError
from finetune_local.kubelet.volumes import PodVolumes, with_api_access
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import PODS, SERVICE_ACCOUNTS

log = logging.getLogger(__name__)

Object = dict[str, Any]

MOUNT_RETRY = 1.0
LOST_STATE = {
    "exitCode": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
}


class PodWorker:
    """Runs one pod until it is finished or deleted."""

    def __init__(self, settings: KubeletSettings, pod: Object, *, start_delay: float = 0.0) -> None:
        self.settings = settings
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.record = _new_record(pod)
        self.folder = settings.pod_folder(self.uid)
        self.finished = asyncio.Event()
        self._start_delay = start_delay
        self._dirty = asyncio.Event()
        self._silent = False
        self._runners: list[ContainerRunner] = []
        self._sidecars: list[ContainerRunner] = []
        self._stop: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._life: asyncio.Task[None] | None = None
        self._volumes: PodVolumes | None = None

    def start(self) -> None:
        self._spawn(self._write_statuses())
        if self._ran_before() and self._policy == "Never":
            self._lose()
            return
        self._life = self._spawn(self._live())
        self.update(self.pod)

    def _ran_before(self) -> bool:
        """Whether a kubelet of an earlier run of the cluster started this pod: its processes are gone."""
        return bool((self.pod.get("status") or {}).get("startTime"))

    def _lose(self) -> None:
        """What may not be started again is Failed, as after the reboot of a node."""
        self.record.start_time = self.pod["status"]["startTime"]
        self.record.ending = True
        self._stop = self._spawn(self._end(0))

    def update(self, pod: Object) -> None:
        """A newer version of the pod was seen."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp") and self._stop is None:
            grace = pod["metadata"].get("deletionGracePeriodSeconds")
            self.record.ending = True
            self._stop = self._spawn(self._end(30 if grace is None else grace))

    def evict(self, reason: str, message: str, *, disruption: str = "") -> None:
        """Ends the pod as Failed; the object stays. `disruption` becomes the reason of DisruptionTarget."""
        if self._stop is None and not self.finished.is_set():
            grace = self.pod["spec"].get("terminationGracePeriodSeconds", 30)
            self.record.ending = True
            self.record.reason, self.record.message, self.record.disruption = reason, message, disruption
            self._changed()
            self._stop = self._spawn(self._end(grace))

    async def vanish(self) -> None:
        """Kills all processes and says nothing to anybody, as a node that lost its power."""
        self._silent = True
        await self._kill_everything()

    async def destroy(self) -> None:
        """Kills all processes and forgets the pod: it was removed from the API server by force."""
        self._silent = True
        await self._kill_everything()
        await self._clean_up()

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._report)
        return task

    def _report(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("pod %s: %s", self.pod["metadata"]["name"], error, exc_info=error)

    async def _kill_everything(self) -> None:
        current = asyncio.current_task()
        for task in list(self._tasks):
            if task is not current:
                task.cancel()
        await asyncio.gather(*(runner.kill() for runner in self._runners))
        self.finished.set()

    async def _live(self) -> None:
        began = asyncio.get_running_loop().time()
        self.record.start_time = timestamps.now()
        self._changed()
        await asyncio.sleep(self._start_delay)
        await self._pull_images()
        await self._set_up()
        self._spawn(self._refresh_volumes())
        if deadline := self.pod["spec"].get("activeDeadlineSeconds"):
            self._spawn(self._enforce_deadline(began + deadline))
        if await self._run_init_containers():
            await self._run_containers()
        if self._stop is None:
            self._changed()
            await self._last_status()
            self.finished.set()
            await self._release()

    async def _pull_images(self) -> None:
        knobs = self.settings.knobs
        containers = {one["name"]: one for one in _all_containers(self.pod)}
        await asyncio.sleep(knobs.image_pull_delay)
        delay = knobs.image_pull_backoff
        while failing := [one for one in self._records() if knobs.image_fails(one.image)]:
            for record in failing:
                image = containers[record.name]["image"]
                record.wait("ErrImagePull", f'failed to pull and unpack image "{image}": not found')
                self.settings.recorder.record(self.pod, "Warning", "Failed", f'Failed to pull image "{image}"')
            self._changed()
            await asyncio.sleep(min(1.0, delay))
            for record in failing:
                record.wait("ImagePullBackOff", f'Back-off pulling image "{containers[record.name]["image"]}"')
            self._changed()
            await asyncio.sleep(delay)

    async def _set_up(self) -> None:
        account = await self._service_account()
        mounted = with_api_access(self.pod, account)
        ip = self.settings.network.assign(self.uid, dns_name(self.pod))
        self.record.ip = ip
        mounted = {**mounted, "status": {**(self.pod.get("status") or {}), "podIP": ip, "hostIP": "127.0.0.1"}}
        allocatable = self.settings.allocatable(self.pod["spec"].get("nodeName", ""))
        self._volumes = PodVolumes(
            self.settings.api, mounted, self.folder / "volumes", self.settings.claim_folder, allocatable
        )
        last = ""
        while True:
            try:
                await self._volumes.prepare()
                break
            except (VolumeError, OSError) as error:
                if str(error) != last:
                    last = str(error)
                    self.settings.recorder.record(
                        self.pod, "Warning", "FailedMount", f"MountVolume.SetUp failed: {last}"
                    )
            await asyncio.sleep(MOUNT_RETRY)
        write_system_files(self.settings, self.pod, ip)
        self.record.sandbox_ready = True
        self._changed()

    async def _service_account(self) -> Object | None:
        name = self.pod["spec"].get("serviceAccountName") or "default"
        try:
            return await self.settings.api.get(SERVICE_ACCOUNTS, name, self.pod["metadata"]["namespace"])
        except ApiError:
            return None

    async def _refresh_volumes(self) -> None:
        while True:
            await asyncio.sleep(self.settings.knobs.volume_sync_period)
            if self._volumes is not None:
                self._volumes.pod = {**self._volumes.pod, "metadata": self.pod["metadata"]}
                try:
                    await self._volumes.refresh()
                except (VolumeError, OSError) as error:
                    if "deletionTimestamp" in self.pod["metadata"]:  # what its owner owned may be gone before it
                        return
                    log.warning("pod %s: volumes not refreshed: %s", self.pod["metadata"]["name"], error)

    async def _enforce_deadline(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
        self.evict("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")

    async def _run_init_containers(self) -> bool:
        policy = "Never" if self._policy == "Never" else "OnFailure"
        for container, record in zip(self.pod["spec"].get("initContainers") or [], self.record.init, strict=True):
            if record.sidecar:
                await self._start_sidecar(self._runner(container, record, "Always"))
                continue
            await self._run_all([self._runner(container, record, policy)])
            if record.terminated is None or record.terminated["exitCode"] != 0:
                return False
        return True

    async def _start_sidecar(self, runner: ContainerRunner) -> None:
        """An init container with restartPolicy Always (KEP-753): the next one starts when this one has started."""
        self._sidecars.append(runner)
        self._runners = list(self._sidecars)
        self._spawn(runner.run())
        await runner.up.wait()

    async def _run_containers(self) -> None:
        pairs = zip(self.pod["spec"]["containers"], self.record.containers, strict=True)
        await self._run_all([self._runner(container, record, self._policy) for container, record in pairs])
        if self._stop is None:
            grace = self.pod["spec"].get("terminationGracePeriodSeconds", 30)
            for sidecar in reversed(self._sidecars):
                await sidecar.stop(grace)
                await sidecar.ended.wait()

    async def _run_all(self, runners: list[ContainerRunner]) -> None:
        if self._stop is not None:
            return
        self._runners = [*self._sidecars, *runners]
        async with asyncio.TaskGroup() as group:
            for runner in runners:
                group.create_task(runner.run())

    def _runner(self, container: Object, record: ContainerRecord, policy: str) -> ContainerRunner:
        folder = self.folder / "containers" / container["name"]
        folder.mkdir(parents=True, exist_ok=True)
        return ContainerRunner(
            self.settings, self.pod, container, record, self._build, self._changed, restart_policy=policy
        )

    async def _build(self, container: Object) -> Spec:
        if self._volumes is None:
            raise RuntimeError("the volumes come before the containers")
        mounted = next(one for one in _all_containers(self._volumes.pod) if one["name"] == container["name"])
        return await build_spec(self.settings, self._volumes.pod, mounted, self._volumes, self.record.ip)

    @property
    def _policy(self) -> str:
        return str(self.pod["spec"].get("restartPolicy", "Always"))

    def _records(self) -> list[ContainerRecord]:
        return [*self.record.init, *self.record.containers]

    async def _end(self, grace: float) -> None:
        await asyncio.gather(*(runner.stop(grace) for runner in self._runners))
        if self._life is not None:
            self._life.cancel()
            with contextlib.suppress(asyncio.CancelledError, ExceptionGroup):
                await self._life
        # One that was just being started was not there to be stopped.
        await asyncio.gather(*(runner.kill() for runner in self._runners))
        self.record.terminal = True
        for one in self.record.containers:
            if one.terminated is None:
                one.state = {"terminated": dict(LOST_STATE)}
                one.ready = one.started = False
        await self._last_status()
        self.finished.set()
        await self._release()
        if self.pod["metadata"].get("deletionTimestamp"):
            await self._delete()

    async def _delete(self) -> None:
        metadata = self.pod["metadata"]
        try:
            await self.settings.api.delete(
                PODS, metadata["name"], metadata["namespace"], uid=self.uid, grace_period_seconds=0
            )
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise

    async def delete_finished(self) -> None:
        """The object of a pod that ended before is being deleted: nothing is left to stop."""
        await self._delete()

    def _changed(self) -> None:
        self._dirty.set()

    async def _write_statuses(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._write_status()

    async def _last_status(self) -> None:
        for task in list(self._tasks):
            if task not in (asyncio.current_task(), self._life, self._stop):
                task.cancel()
        await self._write_status()

    async def _write_status(self) -> None:
        """Compare and swap: conditions that others write must survive."""
        metadata = self.pod["metadata"]
        while not self._silent:
            try:
                current = await self.settings.api.get(PODS, metadata["name"], metadata["namespace"])
                if current["metadata"]["uid"] != self.uid:
                    return
                status = pod_status(current, self.record)
                if status != current.get("status"):
                    await self.settings.api.replace_status(PODS, {**current, "status": status})
                return
            except ApiError as error:
                if error.not_found:
                    return
                if not error.conflict:
                    raise

    async def _release(self) -> None:
        self.settings.network.release(self.uid)

    async def _clean_up(self) -> None:
        await self._release()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)


def dns_name(pod: Object) -> str:
    """host.subdomain.namespace, empty for a pod that no headless Service names."""
    spec = pod["spec"]
    if not (spec.get("hostname") and spec.get("subdomain")):
        return ""
    return f"{spec['hostname']}.{spec['subdomain']}.{pod['metadata']['namespace']}"


def _all_containers(pod: Object) -> list[Object]:
    return [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]


def _new_record(pod: Object) -> PodRecord:
    def record(container: Object, reason: str) -> ContainerRecord:
        state = {"waiting": {"reason": reason}}
        sidecar = container.get("restartPolicy") == "Always"
        return ContainerRecord(container["name"], container.get("image", ""), state, sidecar=sidecar)

    init = [record(one, "ContainerCreating") for one in pod["spec"].get("initContainers") or []]
    first = "PodInitializing" if init else "ContainerCreating"
    return PodRecord(init=init, containers=[record(one, first) for one in pod["spec"]["containers"]])
