"""manifests/ says the same as the chart."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from charts.conftest import ROOT, Render
from finetune_api import ClusterTrainingRuntime

BASE = ROOT / "manifests" / "base"
needs_kubectl = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kustomize is in kubectl, which is not installed"
)

Manifest = dict[str, Any]
Identity = tuple[str, str | None, str]


def render_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_manifests", ROOT / "manifests" / "render.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}


def kustomize(folder: str) -> list[Manifest]:
    command = ["kubectl", "kustomize", str(ROOT / "manifests" / folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return [document for document in yaml.safe_load_all(result.stdout) if document]


def by_identity(manifests: list[Manifest]) -> dict[Identity, Manifest]:
    return {(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]): m for m in manifests}


def without_helm_labels(manifest: Manifest) -> Manifest:
    labels = dict(manifest["metadata"]["labels"])
    assert labels.pop("app.kubernetes.io/managed-by") == "Helm"
    assert labels.pop("helm.sh/chart").startswith("finetune-operator-")
    return manifest | {"metadata": manifest["metadata"] | {"labels": labels}}


def test_the_committed_base_is_what_the_chart_renders_today() -> None:
    assert files_of(BASE) == render_module().base(), "run `make manifests`"


def test_the_operator_of_local_mode_gets_what_the_chart_renders_today() -> None:
    render = render_module()
    assert files_of(render.LOCAL) == render.local(), "run `make manifests`"


@needs_kubectl
def test_kustomize_gives_the_charts_objects_the_crds_and_a_namespace(render: Render) -> None:
    built = by_identity(kustomize("base"))
    crds = yaml.safe_load_all((ROOT / "manifests" / "crds" / "crds.yaml").read_text(encoding="utf-8"))
    expected = by_identity([without_helm_labels(m) for m in render().all] + [crd for crd in crds if crd])
    namespace = built.pop(("Namespace", None, "finetune-system"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert built == expected


@needs_kubectl
def test_the_example_overlay_changes_what_it_says_it_changes() -> None:
    built = by_identity(kustomize("overlays/example"))
    deployment = built["Deployment", "finetune-system", "finetune-operator"]["spec"]["template"]["spec"]
    image = "registry.example.com/platform/finetune-operator:0.1.0"
    assert [container["image"] for container in deployment["containers"]] == [image]
    assert deployment["priorityClassName"] == "system-cluster-critical"
    runtime = built["ClusterTrainingRuntime", None, "gpu"]
    ClusterTrainingRuntime.model_validate(runtime)
