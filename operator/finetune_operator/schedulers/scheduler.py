"""What a scheduler integration adds to a gang."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class GangRequest:
    """A gang as a scheduler sees it."""

    name: str
    members: int
    queue: str | None = None
    priority_class: str | None = None
    """Of the pods, as the merged templates set it."""
    served: frozenset[str] | None = None
    """API groups and versions of the cluster; None: not known."""


def first_served(apis: Sequence[str], served: frozenset[str] | None) -> str:
    """The best of the APIs that the cluster has; the best of all when that is not known."""
    return next((api for api in apis if served is None or api in served), apis[0])


class Scheduler(Protocol):
    """Who decides when and where the pods of an attempt run."""

    @property
    def apis(self) -> Sequence[str]:
        """Groups, or versions of them, one of which the cluster must serve, or nobody would ever place the pods.

        Best first; none: nothing is needed.
        """

    @property
    def holds_jobs(self) -> bool:
        """The Job is made suspended, and the scheduler lets it go when there is room."""

    def pod_fields(self, gang: GangRequest) -> dict[str, Any]:
        """Fields of the pod spec: the scheduler's name, gates."""

    def pod_metadata(self, gang: GangRequest) -> dict[str, Any]:
        """Labels and annotations by which the scheduler knows the members of the gang."""

    def job_labels(self, gang: GangRequest) -> dict[str, str]:
        """Labels of the Job."""

    def objects(self, gang: GangRequest) -> list[dict[str, Any]]:
        """Objects made before the Job, such as a PodGroup, less their metadata."""
