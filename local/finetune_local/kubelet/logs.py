"""`kubectl logs`: what a container wrote, now and (with follow) for as long as it runs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from finetune_local.apiserver.cluster import LogRequest
from finetune_local.apiserver.status_error import bad_request
from finetune_local.kubelet.kubelet import Kubelet
from finetune_local.kubelet.pod_worker import PodWorker
from finetune_local.kubelet.statuses import ContainerRecord

Object = dict[str, Any]

CHUNK = 65536
POLL = 0.1
"""Seconds between two looks at a log that is followed."""


class LogReader:
    """Logs are plain files without times: `timestamps` is not honoured, `sinceSeconds` only as "nothing new"."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    async def read(self, request: LogRequest) -> AsyncIterator[bytes]:
        """Raises StatusError when there is no such log."""
        try:
            worker = self._kubelet.worker(request.namespace, request.pod)
        except KeyError as error:
            raise bad_request(str(error.args[0])) from error
        record = _record(worker, request.container)
        path = self._file(worker, record, request.previous)
        left = request.limit_bytes if request.limit_bytes is not None else float("inf")
        with path.open("rb") as file:  # kept open: a pod's logs go with it, and what was written before is still told
            file.seek(start_of_tail(path, request.tail_lines))
            while left > 0:
                over = not (request.follow and (record.running or _starts(record)))
                while left > 0 and (data := file.read(int(min(left, CHUNK)))):
                    left -= len(data)
                    yield data
                if over:
                    return
                await asyncio.sleep(POLL)

    def _file(self, worker: PodWorker, record: ContainerRecord, previous: bool) -> Path:
        number = record.restart_count - previous
        path = self._kubelet.settings.log_file(worker.uid, record.name, number)
        waiting = record.state.get("waiting")
        if not previous and not path.exists() and record.restart_count > 0:
            path = self._kubelet.settings.log_file(worker.uid, record.name, number - 1)
        if path.exists():
            return path
        name = worker.pod["metadata"]["name"]
        if previous:
            raise bad_request(f'previous terminated container "{record.name}" in pod "{name}" not found')
        why = (waiting or {}).get("reason", "ContainerCreating")
        raise bad_request(f'container "{record.name}" in pod "{name}" is waiting to start: {why}')


def _starts(record: ContainerRecord) -> bool:
    return "waiting" in record.state and not record.last_state


def _record(worker: PodWorker, container: str) -> ContainerRecord:
    records = [*worker.record.init, *worker.record.containers]
    name = worker.pod["metadata"]["name"]
    if not container:
        if len(worker.record.containers) == 1:
            return worker.record.containers[0]
        listed = " ".join(one.name for one in worker.record.containers)
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{listed}]")
    for record in records:
        if record.name == container:
            return record
    raise bad_request(f"container {container} is not valid for pod {name}")


def start_of_tail(path: Path, lines: int | None) -> int:
    """Offset of the last `lines` lines."""
    if lines is None or lines < 0:
        return 0
    size = path.stat().st_size
    if lines == 0:
        return size
    with path.open("rb") as file:
        position, found = size, 0
        while position > 0:
            step = min(CHUNK, position)
            position -= step
            file.seek(position)
            block = file.read(step)
            end = len(block) - (position + step == size and block.endswith(b"\n"))
            while (end := block.rfind(b"\n", 0, end)) >= 0:
                found += 1
                if found == lines:
                    return position + end + 1
    return 0
