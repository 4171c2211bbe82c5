"""The cluster that the chaos tests disturb, and how much they do: `make chaos` does more of it."""

import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from controllers.cluster_user import NAMESPACE, ClusterUser
from finetune_api.crds import custom_resource_definitions
from finetune_api.reports import TerminationMessage
from finetune_local.cluster import Cluster
from finetune_local.knobs import Knobs
from finetune_operator.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES
from plan.builders import RESULT

SHORT_LEASE = ("--leader-elect-lease-duration=6", "--leader-elect-renew-deadline=4", "--leader-elect-retry-period=0.7")
RUN_SECONDS = 5.0
"""How long a simulated gang trains."""


@dataclass(frozen=True)
class Size:
    """How much a run does."""

    jobs: int
    rounds: int
    shipped_lease: bool
    """The times of the lease as shipped; a shorter one lets a small run be quick, and says nothing of takeovers."""

    @property
    def lease_options(self) -> tuple[str, ...]:
        return () if self.shipped_lease else SHORT_LEASE


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """All that is random comes from here; the seed is printed, and `--chaos-seed` repeats it."""
    given = request.config.getoption("--chaos-seed")
    seed = given if given is not None else secrets.randbelow(10**6)
    print(f"\nchaos: --chaos-seed {seed}")
    return random.Random(seed)


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    option = request.config.getoption
    return Size(option("--chaos-jobs"), option("--chaos-rounds"), option("--chaos-jobs") > 50)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Pods are simulated: they run for a while and succeed with a result."""
    words = TerminationMessage.model_validate({"outcome": "Succeeded", "result": RESULT})
    message = words.model_dump_json(by_alias=True, exclude_none=True)
    knobs = Knobs(stubbed_start=0.1, stubbed_run=RUN_SECONDS, stubbed_message=message)
    async with Cluster(pods="stubbed", knobs=knobs) as cluster:
        for definition in custom_resource_definitions():
            await cluster.api.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
        await cluster.api.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        yield cluster


@pytest.fixture
def user(cluster: Cluster) -> ClusterUser:
    return ClusterUser(cluster.api)
