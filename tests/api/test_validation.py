"""Bad input gets an error that names the field, the value and the mend."""

from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api import FineTuneJob, ModelDeployment, ModelVersion
from finetune_api.dataset import COLUMNS_READ, Columns
from finetune_api.errors import field_errors
from finetune_api.metrics import TASKS


def job(**changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "model": {"source": "hf://org/model"},
        "task": "TextClassification",
        "dataset": {"train": {"source": "s3://data/train.jsonl"}, "split": {"validation": 0.1, "test": 0.1}},
        "method": {"lora": {"rank": 8}},
    }
    return {
        "apiVersion": "finetune-operator.io/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "tickets", "namespace": "ml", "resourceVersion": "7"},
        "spec": spec | changes,
    }


def errors_of(body: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        FineTuneJob.model_validate(body)
    return [str(error) for error in field_errors(caught.value, FineTuneJob)]


def test_the_shortest_useful_job_is_valid() -> None:
    parsed = FineTuneJob.model_validate(job())
    assert parsed.spec.training.batch_size == 32
    assert parsed.spec.distributed.world_size == 1
    assert parsed.spec.method.name == "lora"


def test_a_resource_survives_the_round_trip_to_the_wire() -> None:
    parsed = FineTuneJob.model_validate(job(training={"batchSize": 64}))
    assert FineTuneJob.model_validate(parsed.wire()) == parsed


GATE = {"metric": "f1", "operator": ">=", "value": 0.8}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bogus": 1}, "spec.bogus: unknown field; remove it or correct its spelling"),
        (
            {"task": "Poetry"},
            "spec.task: input should be 'TextClassification', ",
        ),
        ({"training": {"epochs": -1}}, "spec.training.epochs: input should be greater than 0; got -1"),
        (
            {"model": {"source": "org/model"}},
            "spec.model.source: write hf://ORG/NAME, s3://BUCKET/KEY, pvc://CLAIM/PATH",
        ),
        ({"model": {}}, "spec.model: set source for a pre-trained model, or architecture"),
        ({"model": {"source": "pvc:///models"}}, "spec.model.source: write hf://"),
        ({"model": {"source": "pvc://Bad_Claim/models"}}, "got 'pvc://Bad_Claim/models'"),
        ({"output": {"storage": "s3:///models"}}, "spec.output.storage: write s3://BUCKET/PREFIX"),
        ({"output": {"storage": "s3://models//tickets"}}, "spec.output.storage: write s3://BUCKET/PREFIX"),
        ({"resources": {"limits": {"cpu": "abc"}}}, "cpu: 'abc' is not a quantity; write a number such as 2, 500m"),
        ({"resources": {"limits": {"cpu": "-1"}}}, "cpu: '-1' is not a quantity"),
        (
            {"evaluation": {"gate": [{"metric": "f1", "operator": ">=", "value": 85}]}},
            "evaluation.gate[0].value: f1 lies between 0 and 1, got 85; for 85 % write 0.85",
        ),
        (
            {"evaluation": {"gate": [{"metric": "f1", "baseline": "Deployed"}]}},
            "evaluation.gate[0].baseline: which model is deployed is said by publish.modelName; set it",
        ),
        (
            {"dataset": {"train": {"source": "s3://data/a"}, "split": {"stratifyBy": "label"}}},
            "stratifyBy has nothing to divide: set validation or test",
        ),
        (
            {"dataset": {"train": {"source": "s3://data/a"}, "split": {"groupBy": "customer"}}},
            "groupBy has nothing to keep together: set validation or test",
        ),
        (
            {"dataset": {"train": {"source": "s3://data/a"}}, "training": {"evaluateEverySteps": 5}},
            "training.evaluateEverySteps: there is no validation data to evaluate on",
        ),
        (
            {"task": "ImageClassification", "dataset": {"train": {"source": "s3://data/a"}, "maxLength": 64}},
            "dataset.maxLength and overLength: the examples of ImageClassification have no length; remove them",
        ),
        (
            {"dataset": {"train": {"source": "s3://data/a"}, "columns": {"text": "body", "image": "path"}}},
            "dataset.columns.image: TextClassification reads no such column; remove it",
        ),
        ({"training": {"maxSteps": 10, "warmup": 500}}, "warmup (500 steps) takes all of maxSteps (10)"),
        ({"training": {"maxSteps": 10, "warmup": 10}}, "so learningRate would never be reached"),
        (
            {"training": {"scheduler": "WarmupStableDecay", "warmup": 0.9}},
            "warmup (0.9) and decay (0.2, the default) together are longer than the run; lower one of them",
        ),
        (
            {"training": {"scheduler": "WarmupStableDecay", "warmup": 30, "decay": 0.8, "maxSteps": 100}},
            "warmup (30) and decay (0.8) together are longer than maxSteps (100)",
        ),
        ({"method": {}}, "promptTuning, pTuning, prefixTuning, adalora; got none"),
        ({"method": {"lora": {}, "full": {}}}, "prefixTuning, adalora; got full, lora"),
        (
            {"method": {"lora": {"init": "PiSSA", "dropout": 0.1}}},
            "init PiSSA holds part of the weights in the adapter, so it goes neither with dropout nor with dora; "
            "set dropout 0",
        ),
        ({"method": {"lora": {"init": "Gaussian"}}}, "spec.method.lora.init: input should be 'Default' or 'PiSSA'"),
        ({"method": {"ia3": {"feedforwardModules": ["fc"]}}}, "feedforwardModules needs targetModules"),
        (
            {"method": {"promptTuning": {"virtualTokens": 0}}},
            "spec.method.promptTuning.virtualTokens: input should be greater than or equal to 1; got 0",
        ),
        (
            {"method": {"prefixTuning": {"encoderHiddenSize": 64}}},
            "encoderHiddenSize is the width of the projection: set projection, or remove it",
        ),
        (
            {"method": {"adalora": {"initialRank": 8, "targetRank": 8}}},
            "targetRank (8) must be less than initialRank (8), or there is nothing to allocate; use lora",
        ),
        (
            {"method": {"prefixTuning": {}}, "training": {"gradientCheckpointing": True}},
            "method.prefixTuning does not go with training.gradientCheckpointing: recomputed layers",
        ),
        (
            {"method": {"pTuning": {}}, "task": "TextGeneration", "training": {"packing": True}},
            "method.pTuning does not go with training.packing: only the first text of a packed row would see the "
            "virtual tokens, and the texts would see each other; set packing to false, or use lora",
        ),
        (
            {"method": {"adalora": {}}, "training": {"earlyStopping": {}}},
            "method.adalora does not go with training.earlyStopping: ranks fall by a plan for the whole run",
        ),
        ({"training": {"epochs": 1, "maxSteps": 5}}, "epochs and maxSteps are both set; keep one of them"),
        (
            {"training": {"batchSize": 6, "microBatchSize": 4}},
            "batchSize (6) must be a multiple of microBatchSize (4)",
        ),
        ({"distributed": {"nodes": 3}}, "training.batchSize (32) must be a multiple of distributed.nodes"),
        ({"evaluation": {"gate": [GATE | {"metric": "bleu"}]}}, "has no metric 'bleu'; use one of accuracy"),
        (
            {"evaluation": {"gate": [{"metric": "f1"}]}},
            "set operator and value for a fixed bound, or baseline",
        ),
        ({"evaluation": {"gate": [{"metric": "f1", "value": 1}]}}, "operator and value belong together"),
        ({"deploy": {"name": "tickets"}}, "deploy needs publish: set publish.modelName"),
        ({"training": {"packing": True}}, "training.packing is for TextGeneration"),
        (
            {
                "task": "TextGeneration",
                "dataset": {"train": {"source": "s3://d/t.jsonl"}, "sampling": {"balance": "Weights"}},
            },
            "dataset.sampling is for tasks with one class an example, not TextGeneration",
        ),
        (
            {
                "task": "TextGeneration",
                "dataset": {"train": {"source": "s3://d/t.jsonl"}, "augmentation": {"text": {"swap": 0.1}}},
            },
            "dataset.augmentation.text is for TextClassification, not TextGeneration",
        ),
        (
            {
                "task": "TokenClassification",
                "dataset": {"train": {"source": "s3://d/t.jsonl"}, "cleaning": {"unicode": "NFC"}},
            },
            "change texts, and TokenClassification data points into them; clean the texts before",
        ),
        ({"training": {"decay": 0.1}}, "spec.training: decay is the last part of WarmupStableDecay"),
        ({"training": {"plateau": {}}}, "spec.training: plateau belongs to ReduceOnPlateau"),
        (
            {"training": {"learningRate": 0.01, "minLearningRate": 0.1}},
            "spec.training: minLearningRate (0.1) must be below learningRate (0.01)",
        ),
        (
            {"training": {"scheduler": "Constant", "minLearningRate": 1e-9}},
            "spec.training: minLearningRate does nothing with scheduler Constant",
        ),
        (
            {"training": {"scheduler": "ReduceOnPlateau"}, "dataset": {"train": {"source": "s3://data/train.jsonl"}}},
            "ReduceOnPlateau watches the validation data: set dataset.validation",
        ),
        (
            {"training": {"scheduler": "ReduceOnPlateau", "plateau": {"metric": "bleu"}}},
            "training.plateau.metric: TextClassification has no metric 'bleu'",
        ),
        (
            {
                "task": "ReinforcementLearning",
                "training": {"scheduler": "ReduceOnPlateau", "reinforcement": {"rewards": [{"length": {"tokens": 2}}]}},
            },
            "training.plateau.metric: ReinforcementLearning has no metric 'loss'; use one of reward",
        ),
        ({"publish": {"modelName": "Not_A_Name"}}, "spec.publish.modelName: use lower-case letters, digits and '-'"),
        (
            {"checkpoint": {"storage": "hf://no/write"}},
            "spec.checkpoint.storage: write s3://BUCKET/PREFIX or pvc://CLAIM/PATH",
        ),
        (
            {"failurePolicy": {"maxRestarts": {"user": -1}}},
            "spec.failurePolicy.maxRestarts.user: input should be",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_input_is_refused_with_the_field_and_the_mend(changes: dict[str, Any], expected: str) -> None:
    assert any(expected in error for error in errors_of(job(**changes))), errors_of(job(**changes))


def test_every_column_is_read_by_some_task() -> None:
    assert set(COLUMNS_READ) == set(TASKS) - {"MultiTask"}
    assert set().union(*COLUMNS_READ.values()) == {field.alias or name for name, field in Columns.model_fields.items()}


def test_held_out_data_must_leave_something_to_train_on() -> None:
    dataset = {"train": {"source": "pvc://a/b.csv"}, "split": {"validation": 0.6, "test": 0.5}}
    assert "must be below 1" in errors_of(job(dataset=dataset))[0]


def test_gates_need_held_out_data() -> None:
    dataset = {"train": {"source": "pvc://a/b.csv"}}
    assert "needs held-out data" in errors_of(job(dataset=dataset, evaluation={"gate": [GATE]}))[0]


def test_held_out_data_comes_from_one_place() -> None:
    dataset = {
        "train": {"source": "pvc://a/b.csv"},
        "test": {"source": "pvc://a/t.csv"},
        "split": {"validation": 0, "test": 0.1},
    }
    assert "test and split.test are both set; keep one of them" in errors_of(job(dataset=dataset))[0]


def test_several_errors_come_at_once() -> None:
    assert len(errors_of(job(bogus=1, task="Poetry"))) == 2


def test_the_other_kinds_refuse_unknown_fields_too() -> None:
    with pytest.raises(ValidationError):
        ModelDeployment.model_validate({"kind": "ModelDeployment", "spec": {"modelName": "a", "weight": 3}})
    with pytest.raises(ValidationError):
        ModelVersion.model_validate({"kind": "ModelVersion", "spec": {"modelName": "a"}})
