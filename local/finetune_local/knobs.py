"""What real clusters do to programs and a laptop hides. All off, or as a real cluster has it, unless asked for."""

from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True)
class Knobs:
    """All times in seconds."""

    dns_delay: float = 0.0
    """How long the name of a new pod or Service stays unknown to others."""
    schedule_delay: float = 0.0
    """How long a pod waits before it is bound to a node."""
    image_pull_delay: float = 0.0
    pod_stagger: float = 0.0
    """Each further pod of one owner starts this much later than the one before."""
    failing_images: tuple[str, ...] = ()
    """Images (shell patterns) that cannot be pulled: ErrImagePull, then ImagePullBackOff."""
    image_pull_backoff: float = 10.0
    restart_backoff: float = 10.0
    """First delay of a crash loop; doubled each time up to `restart_backoff_limit`."""
    restart_backoff_limit: float = 300.0
    restart_backoff_reset: float = 600.0
    """A container that ran this long starts again without delay when it ends."""
    job_backoff: float = 10.0
    """First delay before a Job replaces a failed pod; doubled up to `job_backoff_limit`."""
    job_backoff_limit: float = 600.0
    volume_sync_period: float = 30.0
    """How often mounted ConfigMaps, Secrets and tokens are brought up to date."""
    flush_delay: float = 0.0
    """How much longer each flush of a file takes (fsync, of Python programs), as on busy network storage. A pod's own
    variable FINETUNE_LOCAL_FLUSH_DELAY goes before this."""
    heartbeat_period: float = 10.0
    node_monitor_grace: float = 40.0
    """A node that was silent for this long becomes NotReady."""
    unreachable_toleration: float = 300.0
    """Pods on a silent node are deleted after this long, unless their own tolerations say otherwise."""
    stubbed_start: float = 0.0
    """With stubbed pods: from bound to Running."""
    stubbed_run: float | None = None
    """With stubbed pods: from Running to Succeeded; None means for ever, as for pods that are restarted anyway."""
    stubbed_save: float | None = None
    """With stubbed pods: from being told to stop until a checkpoint is saved and the pod ends with exit code 75, or is
    killed because its grace period is over; None: they are killed at once."""
    stubbed_message: str = ""
    """With stubbed pods: the termination message of every container that succeeded."""

    def image_fails(self, image: str) -> bool:
        return any(fnmatch(image, pattern) for pattern in self.failing_images)
