"""Which ModelVersion a ModelDeployment should serve."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from finetune_api.model_deployment import ModelDeploymentSpec
from finetune_api.model_version import ModelVersionSpec
from finetune_operator.serving.served_model import ServedModel

ANNOTATION_RECORDS = "finetune-operator.io/served-versions"
"""On the Deployment: the versions that it serves, so that it outlives their ModelVersions."""
SERVED_FIELDS = {"model_name", "artifact", "format", "base_model", "task", "credentials"}


@dataclass(frozen=True)
class VersionRecord:
    """A ModelVersion, from the API server or from the Deployment's own memory of it."""

    name: str
    created: str
    spec: ModelVersionSpec
    approved: bool
    deleted: bool = False

    @property
    def age_key(self) -> tuple[str, str]:
        """Creation order; names decide between versions of the same second."""
        return (self.created, self.name)


@dataclass(frozen=True)
class Problem:
    """Why the spec cannot be followed. `stalled`: only a person can mend it."""

    reason: str
    message: str
    stalled: bool = True


@dataclass(frozen=True)
class Choice:
    """What to serve; None leaves everything as it is."""

    target: VersionRecord | None
    problem: Problem | None = None


Records = Mapping[str, VersionRecord]
MAX_KEPT = 10
"""Failures, and changes of the history, that a status remembers."""
CHOICES = 2
"""Versions that one plan may choose from: the newest usable one, and what serves when that has just failed."""


def version_records(versions: Iterable[dict[str, Any]], deployment: dict[str, Any] | None) -> dict[str, VersionRecord]:
    """Every known version by name. What the API server has wins over what the Deployment remembers."""
    records = {record.name: record for record in _remembered(deployment)}
    for version in versions:
        if record := _live(version):
            records[record.name] = record
    return records


def remember(records: Iterable[VersionRecord | None]) -> str:
    """The annotation's value."""
    kept = {record.name: record for record in records if record}
    content = [
        {
            "name": record.name,
            "created": record.created,
            "spec": record.spec.model_dump(mode="json", by_alias=True, exclude_none=True, include=SERVED_FIELDS),
        }
        for _, record in sorted(kept.items())
    ]
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def choose(spec: ModelDeploymentSpec, records: Records, stable: str | None, failed: Iterable[str]) -> Choice:
    """The pinned version, else the newest approved one that was not rolled back, else what serves now."""
    current = records.get(stable) if stable else None
    pick = _pinned if spec.version else _newest
    return pick(spec, records, current, set(failed))


def _pinned(spec: ModelDeploymentSpec, records: Records, current: VersionRecord | None, failed: set[str]) -> Choice:
    name = spec.version or ""
    record = records.get(name)
    problem = None
    if record is None:
        problem = Problem("VersionNotFound", f"spec.version: there is no ModelVersion {name!r} in this namespace")
    elif record.spec.model_name != spec.model_name:
        problem = Problem(
            "VersionOfOtherModel",
            f"spec.version: {name!r} is a version of {record.spec.model_name!r}, not of {spec.model_name!r}",
        )
    elif not record.approved and record != current:
        problem = Problem("VersionNotApproved", f"spec.version: {name!r} is not approved; approve it first")
    elif name in failed:
        problem = Problem("RolledBack", f"{name!r} did not become ready and was rolled back; pin it again to retry")
    return Choice(current, problem) if problem else Choice(record)


def _newest(spec: ModelDeploymentSpec, records: Records, current: VersionRecord | None, failed: set[str]) -> Choice:
    approved = sorted(
        (
            record
            for record in records.values()
            if record.approved and not record.deleted and record.spec.model_name == spec.model_name
        ),
        key=lambda record: record.age_key,
    )
    tried = [one for one in approved if one != current and _forgotten(one, records, failed)]
    usable = [one for one in approved if one.name not in failed and one not in tried]
    newest = usable[-1] if usable else None
    if newest is None:
        return Choice(current, None if current else _nothing_to_serve(spec, bool(approved)))
    if current and current.deleted and current.age_key > newest.age_key and current.spec.model_name == spec.model_name:
        # Deleting the record of what serves is no wish to go back to an older version.
        return Choice(current)
    return Choice(newest)


def _forgotten(record: VersionRecord, records: Records, failed: set[str]) -> bool:
    """Whether it may have failed before all the failures that are remembered: then it is not tried again."""
    ages = [records[name].age_key for name in failed if name in records]
    return len(failed) >= MAX_KEPT and bool(ages) and record.age_key < min(ages)


def _nothing_to_serve(spec: ModelDeploymentSpec, all_failed: bool) -> Problem:
    if all_failed:
        return Problem("RolledBack", f"every approved version of {spec.model_name!r} failed; publish a new one")
    return Problem("NoApprovedVersion", f"there is no approved ModelVersion of {spec.model_name!r} yet", stalled=False)


def is_usable(version: dict[str, Any]) -> bool:
    """Whether a choice may fall on an approved version that has not failed."""
    return _live(version) is not None


def newer_failures(records: Records, stable: str | None, failed: Iterable[str], model: str) -> list[str]:
    """Failed versions that would serve now, had they not failed."""
    current = records.get(stable) if stable else None
    found = [records[name] for name in failed if name in records]
    return [
        record.name
        for record in sorted(found, key=lambda record: record.age_key)
        if record.spec.model_name == model
        and not record.deleted
        and (current is None or record.age_key > current.age_key)
    ]


def served_model(record: VersionRecord, spec: ModelDeploymentSpec, records: Records) -> ServedModel | Problem:
    """What the pods are told; a Problem when the base model cannot be found."""
    base = record.spec.base_model if record.spec.format == "Adapter" else None
    uri = base.source if base else None
    digest: str | None = None
    if record.spec.format == "Adapter" and base is None:
        return Problem("BaseModelUnknown", f"ModelVersion {record.name!r} is an adapter without spec.baseModel")
    if uri and uri.startswith("modelversion://"):
        parent = records.get(uri.removeprefix("modelversion://"))
        if parent is None or parent.spec.format != "Full":
            state = "does not exist" if parent is None else f"has the format {parent.spec.format}, not Full"
            return Problem("BaseModelUnknown", f"the base model {uri} of {record.name!r} {state}")
        uri, digest = parent.spec.artifact.uri, parent.spec.artifact.digest
    credentials = [c.secret_name for c in (record.spec.credentials, spec.credentials) if c]
    return ServedModel(
        model_name=record.spec.model_name,
        version=record.name,
        uri=record.spec.artifact.uri,
        digest=record.spec.artifact.digest,
        base_uri=uri,
        base_digest=digest,
        base_revision=base.revision if base else None,
        trust_remote_code=bool(base and base.trust_remote_code),
        credentials=tuple(dict.fromkeys(credentials)),
    )


def _live(version: dict[str, Any]) -> VersionRecord | None:
    """None for a version that is being deleted, or whose spec this operator does not understand."""
    metadata = version["metadata"]
    if metadata.get("deletionTimestamp"):
        return None
    try:
        spec = ModelVersionSpec.model_validate(version["spec"])
    except ValidationError:
        return None
    approved = bool(version.get("status", {}).get("approved"))
    return VersionRecord(metadata["name"], metadata["creationTimestamp"], spec, approved)


def _remembered(deployment: dict[str, Any] | None) -> list[VersionRecord]:
    annotations = (deployment or {}).get("metadata", {}).get("annotations") or {}
    try:
        content = json.loads(annotations.get(ANNOTATION_RECORDS, "[]"))
        return [
            VersionRecord(
                entry["name"], entry["created"], ModelVersionSpec.model_validate(entry["spec"]), True, deleted=True
            )
            for entry in content
        ]
    except (ValueError, KeyError, TypeError):
        return []  # edited by hand: as good as forgotten
