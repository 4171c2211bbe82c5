"""Local mode for the scale benchmark: controllers and simulated pods, in a process of its own.

    python -m benchmarks.scale_cluster KUBECONFIG SECONDS

Pods run for so many seconds and succeed with a result. Prints the URL when it is ready.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path

from finetune_api.crds import custom_resource_definitions
from finetune_local.cluster import Cluster
from finetune_local.controllers.nodes import VirtualNode
from finetune_local.knobs import Knobs
from finetune_operator.kube.resources import CUSTOM_RESOURCE_DEFINITIONS

RESULT = {
    "artifactUri": "s3://models/bench",
    "artifactDigest": "sha256:" + "ab12" * 16,
    "metrics": {"f1": 0.9, "accuracy": 0.9},
    "evaluatedOn": "test",
}
LAST_WORDS = json.dumps({"outcome": "Succeeded", "result": RESULT})


async def serve(kubeconfig: Path, run_seconds: float) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    knobs = Knobs(stubbed_run=run_seconds, stubbed_message=LAST_WORDS)
    node = VirtualNode("bench", {"cpu": "1000000", "memory": "1000Ti", "pods": "1000000"})
    async with Cluster(pods="stubbed", knobs=knobs, nodes=[node]) as cluster:
        for definition in custom_resource_definitions():
            await cluster.api.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
        cluster.server.write_kubeconfig(kubeconfig)
        print(cluster.url, flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2])))
