"""Writes manifests/base from the chart: its default values, in the namespace finetune-system (`make manifests`).

One source: what kustomize users apply is what Helm users get, less the labels that say that Helm manages it. So is what
the operator of local mode gets: its account, its rights and its webhooks, for all namespaces and for chosen ones.
"""

import sys
from pathlib import Path

import yaml
from helm_python import Chart

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "finetune-operator"
BASE = ROOT / "manifests" / "base"
LOCAL = ROOT / "operator" / "finetune_operator" / "cli" / "installed"
LOCAL_TEMPLATES = ("namespace", "serviceaccount", "clusterrole", "role", "leader-election", "certificate", "webhooks")
LOCAL_VALUES: dict[str, dict[str, object]] = {
    "cluster-wide.yaml": {},
    "namespaced.yaml": {"watch": {"namespaces": ["watched-namespace"]}},
}
NAMESPACE = "finetune-system"
HEADER = "# Rendered from charts/finetune-operator by `make manifests`: edit the chart.\n"
HELM_LABELS = ("app.kubernetes.io/managed-by", "helm.sh/chart")

Manifest = dict[str, object]


def namespace() -> Manifest:
    """Helm leaves it to `--create-namespace`; kustomize needs the object."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def rendered(values: Manifest | None = None) -> dict[str, list[Manifest]]:
    """Objects of the chart by the name of their template."""
    with Chart.load(CHART) as chart:
        texts = chart.render(values or {}, name="finetune-operator", namespace=NAMESPACE)
    parsed = {
        Path(path).stem: [document for document in yaml.safe_load_all(text) if document]
        for path, text in texts.items()
        if path.endswith(".yaml")
    }
    return {name: documents for name, documents in parsed.items() if documents}


def without_helm(manifest: Manifest) -> Manifest:
    """The object less the labels that only Helm's own releases should carry."""
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    labels = {name: value for name, value in metadata["labels"].items() if name not in HELM_LABELS}
    return manifest | {"metadata": metadata | {"labels": labels}}


def parts(values: Manifest | None = None) -> dict[str, list[Manifest]]:
    """What to apply without Helm, by the name of its template."""
    return {"namespace": [namespace()]} | {
        name: [without_helm(manifest) for manifest in manifests] for name, manifests in rendered(values).items()
    }


def dumped(manifests: list[Manifest]) -> str:
    """As a file that says where it comes from."""
    return HEADER + yaml.safe_dump_all(manifests, sort_keys=False)


def local() -> dict[str, str]:
    """File names of what local mode installs, and their contents: no Services, as the operator runs in no pod there."""
    files = {}
    for file, values in LOCAL_VALUES.items():
        found = parts(values)
        manifests = [manifest for name in LOCAL_TEMPLATES for manifest in found.get(name, ())]
        files[file] = dumped([manifest for manifest in manifests if manifest["kind"] != "Service"])
    return files


def base() -> dict[str, str]:
    """File names of manifests/base and their contents."""
    files = {f"{name}.yaml": dumped(part) for name, part in parts().items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../crds", *files],
    }
    return files | {"kustomization.yaml": HEADER + yaml.safe_dump(kustomization, sort_keys=False)}


def write(folder: Path, files: dict[str, str]) -> None:
    """These files and no others."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {path.name for path in folder.glob("*.yaml")} - set(files):
        (folder / stale).unlink()
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")


def main() -> None:
    write(BASE, base())
    write(LOCAL, local())


if __name__ == "__main__":
    sys.exit(main())
