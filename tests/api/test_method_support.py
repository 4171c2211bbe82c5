"""One table says which method goes with what: validation, the CRD's rules and the documentation agree with it."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from api.verdicts import by_the_crd, by_the_model
from finetune_api import FineTuneJob
from finetune_api.method import METHODS, Lora, Method
from finetune_api.method_support import CEL, FEATURES, SUPPORT, Feature
from finetune_api.metrics import TASKS, Task
from finetune_api.objectives import objective_problems
from finetune_api.training import Training

ROOT = Path(__file__).parents[2]
SUBTASK = {"train": {"source": "s3://data/train.jsonl"}, "split": {"validation": 0.1, "test": 0.1}}
NEEDED = {
    "ReinforcementLearning": {"training": {"reinforcement": {"rewards": [{"length": {"tokens": 8}}]}}},
    "MultiTask": {
        "dataset": {
            "subtasks": [
                {"name": "intent", "task": "TextClassification", **SUBTASK},
                {"name": "entities", "task": "TokenClassification", **SUBTASK},
            ]
        }
    },
}
ASKING_FOR: dict[Feature, dict[str, Any]] = {
    **{task: {"task": task, **NEEDED.get(task, {})} for task in TASKS},
    "Recommendation": {"task": "Recommendation", "model": {"architecture": {"matrixFactorization": {}}}},
    "training.packing": {"training": {"packing": True}},
    "training.gradientCheckpointing": {"training": {"gradientCheckpointing": True}},
    "training.earlyStopping": {"training": {"earlyStopping": {}}},
    "training.optimizer Muon": {"training": {"optimizer": "Muon"}},
    "training.layerwiseLearningRateDecay": {"training": {"layerwiseLearningRateDecay": 0.9}},
    "training.precision Float16": {"training": {"precision": "Float16"}},
    "training.compile": {"training": {"compile": True}},
    "distributed.fsdp": {"distributed": {"fsdp": {}}},
    "distributed.deepspeed": {"distributed": {"engine": "DeepSpeed"}},
}


def job(method: dict[str, Any], **changes: Any) -> dict[str, Any]:
    spec = {
        "model": {"source": "hf://org/model"},
        "task": "TextGeneration",
        "dataset": {"train": {"source": "s3://data/train.jsonl"}, "split": {"validation": 0.1, "test": 0.1}},
        "method": method,
    }
    kind = {"apiVersion": "finetune-operator.io/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "a"}}
    return {**kind, "spec": spec | changes}


def test_every_method_has_a_row() -> None:
    assert list(SUPPORT) == list(METHODS)
    assert {field.alias or name for name, field in Method.model_fields.items()} == set(METHODS)
    assert set(CEL) == set(ASKING_FOR) <= set(FEATURES)


@pytest.mark.parametrize("feature", ASKING_FOR)
@pytest.mark.parametrize("method", METHODS)
def test_what_the_table_refuses_is_refused_with_its_reason_and_nothing_else_is(method: str, feature: Feature) -> None:
    body = job({method: {}}, **ASKING_FOR[feature])
    reason = SUPPORT[method].refused.get(feature)
    for verdict in (by_the_model(FineTuneJob, body), by_the_crd(body)):
        assert len(verdict) == bool(reason), verdict
        assert all(f"method.{method} does not go with {feature}: {reason}" in line for line in verdict)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({}, "set exactly one of full, lora"),
        ({"ia3": {}, "lora": {}}, "set exactly one of full, lora"),
        ({"lora": {"init": "PiSSA", "dora": True}}, "init PiSSA"),
        ({"ia3": {"feedforwardModules": ["fc"]}}, "feedforwardModules needs targetModules"),
        ({"prefixTuning": {"encoderHiddenSize": 8}}, "set projection"),
        ({"adalora": {"initialRank": 4, "targetRank": 4}}, "targetRank"),
    ],
)
def test_the_crd_refuses_what_the_model_refuses(method: dict[str, Any], message: str) -> None:
    for verdict in (by_the_model(FineTuneJob, job(method)), by_the_crd(job(method))):
        assert len(verdict) == 1, verdict
        assert message in verdict[0]


@pytest.mark.parametrize("distributed", [{"fsdp": {}}, {"engine": "DeepSpeed"}])
@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("training.optimizer", {"training": {"optimizer": "Muon"}}),
        ("training.precision", {"training": {"precision": "Float16"}}),
        ("training.l1", {"training": {"l1": 0.1}}),
        ("task", {"task": "Seq2Seq"}),
    ],
)
def test_what_cannot_be_sharded_is_refused(field: str, changes: dict[str, Any], distributed: dict[str, Any]) -> None:
    body = job({"full": {}}, distributed=distributed, **changes)
    for verdict in (by_the_model(FineTuneJob, body), by_the_crd(body)):
        assert len(verdict) == 1, verdict
        assert f"{field}: " in verdict[0]


@pytest.mark.parametrize(
    ("distributed", "message"),
    [
        ({"engine": "Torchrun", "deepspeed": {}}, "deepspeed is for engines DeepSpeed and Ray"),
        ({"engine": "DeepSpeed", "fsdp": {}}, "fsdp is for engines Torchrun and Ray"),
        ({"engine": "DeepSpeed", "deepspeed": {"zeroStage": 2, "offloadParameters": True}}, "zeroStage 3"),
    ],
)
def test_ways_to_shard_that_do_not_go_together_are_refused(distributed: dict[str, Any], message: str) -> None:
    body = job({"full": {}}, distributed=distributed)
    for verdict in (by_the_model(FineTuneJob, body), by_the_crd(body)):
        assert len(verdict) == 1, verdict
        assert message in verdict[0]


def test_the_page_is_current() -> None:
    specification = importlib.util.spec_from_file_location("render_methods", ROOT / "docs" / "render_methods.py")
    assert specification
    assert specification.loader
    page = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(page)
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == page.rendered(), "run `make docs`"


@pytest.mark.parametrize(
    ("task", "training", "expected"),
    [
        (
            "TextGeneration",
            {"preference": {}},
            "training.preference is for PreferenceOptimization, not TextGeneration; remove it",
        ),
        (
            "PreferenceOptimization",
            {"preference": {"desirableWeight": 2.0}},
            "desirableWeight and undesirableWeight belong to KTO: set loss to KTO, or remove them",
        ),
        (
            "PreferenceOptimization",
            {"preference": {"loss": "KTO"}, "labelSmoothing": 0.1},
            "training.labelSmoothing: KTO weighs good and bad completions instead; set undesirableWeight, or use DPO",
        ),
        (
            "RewardModeling",
            {"labelSmoothing": 0.5},
            "training.labelSmoothing (0.5): that share of the pairs is taken to be labelled the wrong way round",
        ),
        (
            "PreferenceOptimization",
            {"preference": {}, "labelSmoothing": 0.9},
            "from 0.5 on the rejected completion is preferred; lower it",
        ),
    ],
)
def test_an_objective_belongs_to_its_task(task: str, training: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        FineTuneJob.model_validate(job({"lora": {}}, task=task, training=training))
    assert expected in str(caught.value)


REWARDED = {"rewards": [{"length": {"tokens": 3}}]}
PPO = {**REWARDED, "algorithm": "PPO"}


@pytest.mark.parametrize(
    ("reinforcement", "expected"),
    [
        ({"groupSize": 1}, "set at least 2, or algorithm PPO"),
        ({"ppo": {"gamma": 0.9}}, "ppo belongs to algorithm PPO"),
        ({"algorithm": "RLOO", "miniBatches": 2}, "RLOO learns from completions once"),
        ({"clipRange": 0.1}, "clipRange and ppo.valueClipRange do nothing"),
        ({"algorithm": "PPO", "passes": 1, "ppo": {"valueClipRange": 0.1}}, "raise passes or miniBatches"),
        ({"algorithm": "PPO", "miniBatches": 1024}, "miniBatches (1024) cannot share out batchSize × groupSize (256)"),
        ({"maxNewTokens": 512}, "maxNewTokens (512) leaves no room for a prompt in dataset.maxLength (512)"),
    ],
)
def test_reinforcement_that_does_not_fit_its_algorithm_is_refused(reinforcement: dict[str, Any], expected: str) -> None:
    training = {"reinforcement": {**REWARDED, **reinforcement}}
    with pytest.raises(ValidationError) as caught:
        FineTuneJob.model_validate(job({"lora": {}}, task="ReinforcementLearning", training=training))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("task", "training", "field"),
    [
        ("Recommendation", {"labelSmoothing": 0.1}, "training.labelSmoothing"),
        ("Recommendation", {"optimizer": "Muon"}, "training.optimizer Muon is for models with a stack of layers"),
        ("Recommendation", {"compile": True}, "training.compile is for models with a stack of layers"),
        ("Recommendation", {"gradientCheckpointing": True}, "training.gradientCheckpointing is for models"),
        ("Recommendation", {"dropout": 0.1}, "training.dropout: the models of Recommendation have none"),
        ("ReinforcementLearning", {}, "training.reinforcement"),
        ("ReinforcementLearning", {"reinforcement": PPO}, "method.lora.dropout: probabilities are compared"),
        ("ReinforcementLearning", {"reinforcement": REWARDED}, "method.lora.dropout: probabilities are compared"),
        ("PreferenceOptimization", {}, "method.lora.dropout: probabilities are compared with those of the model"),
        (
            "ReinforcementLearning",
            {"reinforcement": {**REWARDED, "beta": 0}, "lossSpike": {}},
            "training.lossSpike: the loss of ReinforcementLearning",
        ),
        (
            "ReinforcementLearning",
            {"reinforcement": {**REWARDED, "beta": 0}, "compile": True},
            "training.compile: completions grow token by token",
        ),
        ("TokenClassification", {"distillation": {"teacher": "modelversion://v1"}}, "training.distillation"),
    ],
)
def test_what_would_do_nothing_or_is_needed_is_told(task: Task, training: dict[str, Any], field: str) -> None:
    (problem,) = objective_problems(task, Training.model_validate(training), Method(lora=Lora(dropout=0.1)))
    assert problem.startswith(f"{field}")
