"""One pod as a node of the Ray cluster: the command and the environment of `ray start`.

https://docs.ray.io/en/latest/cluster/cli.html#ray-start
"""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from finetune_trainer.errors import ConfigurationError
from finetune_trainer.launch.topology import Topology

OBJECT_STORE_BYTES = 80_000_000
"""Little more than the least that Ray accepts: what goes through it is a few functions, never data."""
SHARED_MEMORY = Path("/dev/shm")
LONGEST_FOLDER = 40
"""A socket's path has at most 107 bytes, of which Ray's own names take the rest."""
NODE_LABEL = "finetune-node"
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "warning",
    # The kernel decides when a container is out of memory, as with every engine.
    "RAY_memory_monitor_refresh_ms": "0",
    # The pod's SIGTERM is told to the workers by its launcher.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
}
"""No telemetry, no watchers beside ours, and no second way for logs."""


def require_ray() -> None:
    """Raises ConfigurationError when the image has no Ray Train."""
    if find_spec("ray") is None or find_spec("ray.train") is None:
        raise ConfigurationError(
            "distributed.engine: Ray is not installed: use an image with finetune-operator[ray], or set engine to "
            "Torchrun"
        )


def pod_address(environment: Mapping[str, str] = os.environ) -> str:
    """The address that the other pods reach this one by."""
    return environment.get("POD_IP") or socket.gethostbyname(socket.gethostname())


def cluster_folder(parent: str | None = None) -> Path:
    """A new folder for Ray's sockets and logs. A long TMPDIR gives way to /tmp."""
    chosen = parent or tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="ray-", dir=chosen if len(chosen) <= LONGEST_FOLDER else "/tmp"))


def object_store_folder(cluster: Path, shared: Path = SHARED_MEMORY) -> Path:
    """Shared memory, or a folder where a container has too little of it."""
    if shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 2 * OBJECT_STORE_BYTES:
        return shared
    return cluster


def node_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the environment says has the last word."""
    return {**QUIET, **environment}


def node_command(topology: Topology, address: str, folder: Path) -> list[str]:
    """Starts this pod's node and stays with it; it takes as many workers as the pod is to have."""
    program = str(Path(sys.executable).with_name("ray"))
    where = f"{topology.master_addr}:{topology.master_port}"
    role = (
        ["--head", f"--port={topology.master_port}", "--include-dashboard=false", "--disable-usage-stats"]
        if topology.node_rank == 0
        else [f"--address={where}"]
    )
    return [
        *(program, "start", "--block", *role),
        f"--node-ip-address={address}",
        f"--num-cpus={topology.processes}",
        f"--labels={NODE_LABEL}={topology.node_rank}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--plasma-directory={object_store_folder(folder)}",
        f"--temp-dir={folder}",
        "--include-log-monitor=false",
    ]
