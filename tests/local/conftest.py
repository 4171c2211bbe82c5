from collections.abc import AsyncIterator

import pytest

from finetune_local.cluster import Cluster
from finetune_local.knobs import Knobs

FAST = Knobs(restart_backoff=0.1, restart_backoff_limit=0.2, job_backoff=0.05, image_pull_backoff=0.1)
"""A cluster's own delays, shortened."""


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(knobs=FAST) as running:
        yield running
