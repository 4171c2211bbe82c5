"""The chart, rendered by Helm itself."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "finetune-operator"
VALUES = Path(__file__).parent / "values"
RELEASE, NAMESPACE = "finetune-operator", "finetune-system"

Manifest = dict[str, Any]
Render = Callable[..., "Rendered"]


class Rendered:
    """The objects of one rendering."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.notes = next(text for path, text in texts.items() if path.endswith("NOTES.txt"))
        self.all: list[Manifest] = [
            document
            for path, text in texts.items()
            if path.endswith(".yaml")
            for document in yaml.safe_load_all(text)
            if document
        ]

    def of(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.all if manifest["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Manifest:
        found = [m for m in self.of(kind) if name in (None, m["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} objects {kind} {name or ''}"
        return found[0]

    @property
    def pod(self) -> Manifest:
        template: Manifest = self.one("Deployment")["spec"]["template"]
        return template

    @property
    def container(self) -> Manifest:
        container: Manifest = self.pod["spec"]["containers"][0]
        return container


def values_file(name: str) -> Manifest:
    """One of the values files beside the tests; `default` is none at all."""
    values: Manifest = {} if name == "default" else yaml.safe_load((VALUES / f"{name}.yaml").read_text())
    return values


ALL_VALUES = ["default", *sorted(path.stem for path in VALUES.glob("*.yaml"))]


@pytest.fixture(scope="session")
def chart() -> Iterator[Chart]:
    with Chart.load(CHART) as chart:
        yield chart


@pytest.fixture(scope="session")
def render(chart: Chart) -> Render:
    def rendered(values: Manifest | None = None, *, name: str = RELEASE, namespace: str = NAMESPACE) -> Rendered:
        return Rendered(chart.render(values or {}, name=name, namespace=namespace))

    return rendered
