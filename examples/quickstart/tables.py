"""What `kubectl get` prints, for machines without kubectl: the API server's own tables."""

import json
from pathlib import Path
from typing import Any

from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import new_client_from_config

from finetune_operator.kinds import FINE_TUNE_JOBS, MODEL_DEPLOYMENTS, MODEL_VERSIONS
from finetune_operator.kube.resources import PODS, SERVICES, Kind

SHORT_NAMES = {
    "ftj": FINE_TUNE_JOBS,
    "mv": MODEL_VERSIONS,
    "mdep": MODEL_DEPLOYMENTS,
    "pods": PODS,
    "svc": SERVICES,
}
AS_TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


async def show(kubeconfig: Path, kinds: str, namespace: str) -> None:
    """Prints a table a kind, with the columns that kubectl shows without `-o wide`."""
    async with await new_client_from_config(str(kubeconfig)) as client:
        for kind in (SHORT_NAMES[name] for name in kinds.split(",")):
            table = await _table(client, kind, namespace)
            if table["rows"]:
                print(rendered(table, f"{kind.kind.lower()}/"), end="\n\n", flush=True)


async def _table(client: ApiClient, kind: Kind, namespace: str) -> dict[str, Any]:
    url = client.configuration.host + kind.path(namespace)
    answer = await client.call_api("GET", url, header_params=AS_TABLE)
    return dict(json.loads(await answer.read()))


def rendered(table: dict[str, Any], prefix: str) -> str:
    """Columns as wide as their longest cell, three spaces apart."""
    shown = [index for index, column in enumerate(table["columnDefinitions"]) if not column.get("priority")]
    lines = [[table["columnDefinitions"][index]["name"].upper() for index in shown]]
    for row in table["rows"]:
        cells = ["" if row["cells"][index] is None else str(row["cells"][index]) for index in shown]
        lines.append([prefix + cells[0], *cells[1:]])
    widths = [max(len(line[column]) for line in lines) for column in range(len(shown))]
    return "\n".join("   ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
