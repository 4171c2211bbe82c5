"""What a job reads: known in one list, by which names are found, waited for and replaced."""

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.sources import Source
from finetune_operator.plan.places import EACH, READ_FIELDS, named_versions, read_places, with_places
from plan.builders import spec

Resource = dict[str, Any]
VERSIONS = {"modelversion://base": "s3://m/base", "modelversion://judge": "s3://m/judge"}
REWARDED = spec(
    model={"source": "modelversion://base"},
    task="ReinforcementLearning",
    dataset={"train": {"source": "s3://d/train"}, "split": {"test": 0.1}, "columns": {"prompt": "p"}},
    training={
        "reinforcement": {
            "rewards": [
                {"length": {"tokens": 9}},
                {"model": {"source": "modelversion://judge"}},
                {"model": {"source": "s3://m/other"}},
            ]
        }
    },
)


def source_fields(schema: Resource, root: Resource, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all fields of a JSON schema that have the form of a Source."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if schema.get("pattern") == TypeAdapter(Source).json_schema()["pattern"]:
        yield path
    for one in schema.get("anyOf", ()):
        yield from source_fields(one, root, path)
    for name, inner in schema.get("properties", {}).items():
        yield from source_fields(inner, root, (*path, name))
    if isinstance(items := schema.get("items"), dict):
        yield from source_fields(items, root, (*path, EACH))


def test_every_field_that_takes_a_source_is_read() -> None:
    schema = FineTuneJobSpec.model_json_schema()
    assert set(source_fields(schema, schema)) == set(READ_FIELDS)


def test_places_are_told_with_their_fields() -> None:
    assert read_places(FineTuneJobSpec.model_validate(REWARDED)) == [
        ("spec.model.source", "modelversion://base"),
        ("spec.dataset.train.source", "s3://d/train"),
        ("spec.training.reinforcement.rewards[1].model.source", "modelversion://judge"),
        ("spec.training.reinforcement.rewards[2].model.source", "s3://m/other"),
    ]


def test_versions_are_found_in_a_spec_that_is_not_valid() -> None:
    assert named_versions(REWARDED) == ["base", "judge"]
    broken = {"model": "tiny", "training": {"distillation": {"teacher": 3}, "reinforcement": {"rewards": {"a": 1}}}}
    assert named_versions(broken) == []


def test_versions_are_replaced_by_where_they_are() -> None:
    before = FineTuneJobSpec.model_validate(REWARDED)
    after = with_places(before, VERSIONS)
    assert [uri for _, uri in read_places(after)] == ["s3://m/base", "s3://d/train", "s3://m/judge", "s3://m/other"]
    assert named_versions(before.wire()) == ["base", "judge"]  # the job itself stays as it was written
    assert after.dataset is before.dataset
