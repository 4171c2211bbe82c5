"""`finetune-operator validate`: the operator's verdict on files, offline."""

import sys
from dataclasses import dataclass
from typing import IO, Any

import click
import yaml

from finetune_api.names import API_VERSION, GROUP
from finetune_operator.plan.admission import MODELS, errors_of


@dataclass(frozen=True)
class Verdict:
    """What was found in one document of a file."""

    subject: str
    errors: tuple[str, ...] = ()
    skipped: str = ""

    def lines(self) -> list[str]:
        if self.skipped:
            return [f"{self.subject}: skipped, {self.skipped}"]
        return [f"{self.subject}: {error}" for error in self.errors] or [f"{self.subject}: valid"]


def judge(document: Any) -> Verdict:
    """Validates one document; documents of other API groups are none of our business."""
    if not isinstance(document, dict) or not document.get("kind"):
        return Verdict("document", ("not a Kubernetes object: apiVersion and kind are missing",))
    kind, version = str(document["kind"]), str(document.get("apiVersion", ""))
    metadata = document.get("metadata")
    name = (metadata.get("name") if isinstance(metadata, dict) else None) or "(no name)"
    subject = f"{kind}/{name}"
    if version.partition("/")[0] != GROUP:
        return Verdict(subject, skipped=f"{version} is not {GROUP}")
    if version != API_VERSION:
        return Verdict(subject, (f"apiVersion: {version!r} is not served; use {API_VERSION}",))
    if kind not in MODELS:
        return Verdict(subject, (f"kind: unknown; use one of {', '.join(MODELS)}",))
    return Verdict(subject, tuple(errors_of(MODELS[kind], document)))


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
def validate(files: tuple[IO[bytes], ...]) -> None:
    """Check FILES (YAML, - for standard input) as the operator would; exit 1 when something is wrong."""
    failed = False
    for file in files:
        for verdict in _verdicts(file):
            failed |= bool(verdict.errors)
            for line in verdict.lines():
                click.echo(f"{file.name}: {line}", err=bool(verdict.errors))
    sys.exit(int(failed))


def _verdicts(file: IO[bytes]) -> list[Verdict]:
    try:
        found = [judge(document) for document in yaml.safe_load_all(file) if document is not None]
        return found or [Verdict("file", skipped="it holds no object")]
    except yaml.YAMLError as error:
        return [Verdict("file", (f"not YAML: {' '.join(str(error).split())}",))]
