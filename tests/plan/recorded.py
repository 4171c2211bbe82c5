"""Pod statuses on file: YAML lists of cases, each with a pod and what it must be taken for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_operator.plan.evidence import Evidence, event_facts, node_facts
from finetune_operator.plan.observation import AttemptFacts, observe_attempts
from plan.builders import indexed_job, pod

FOLDER = Path(__file__).with_name("pod_statuses")


def cases(*names: str) -> list[Any]:
    """Of these files, as parameters of a test."""
    read = [(name, case) for name in names for case in yaml.safe_load((FOLDER / f"{name}.yaml").read_text())]
    return [pytest.param(case, id=f"{name}: {case['name']}") for name, case in read]


def attempt_of(case: dict[str, Any]) -> AttemptFacts:
    """Rank 0 runs; rank 1 is the case."""
    item = pod(1)
    terminated = {"finishedAt": "2026-11-22T09:00:00Z"} | case.get("terminated", {})
    ended = {"phase": "Failed", "containerStatuses": [{"name": "trainer", "state": {"terminated": terminated}}]}
    item["status"] = _as_json(case.get("status", ended))
    item["metadata"] |= _as_json(case.get("metadata", {}))
    return observe_attempts([indexed_job()], [pod(0), item])[1]


def around(case: dict[str, Any]) -> Evidence:
    """Nodes and events; `node: null` is one that is gone."""
    nodes = {"node-1": node_facts("node-1", case["node"])} if "node" in case else {}
    return Evidence(nodes, tuple(event_facts(one) for one in case.get("events", [])))


def _as_json(value: Any) -> Any:
    """YAML's timestamps as the text that the API server sends."""
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value
