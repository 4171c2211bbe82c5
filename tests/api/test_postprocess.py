"""A chain of steps that cannot work is refused when the job is applied, with the mend."""

from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api.errors import field_errors
from finetune_api.fine_tune_job import FineTuneJobSpec

LORA: dict[str, Any] = {"lora": {}}
MERGE: dict[str, Any] = {"merge": {}}
AVERAGE: dict[str, Any] = {"average": {}}


def spec(steps: list[dict[str, Any]], method: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "model": {"source": "hf://org/model"},
        "task": "TextClassification",
        "dataset": {"train": {"source": "s3://data/train.jsonl"}, "split": {"test": 0.1}},
        "method": method,
        "postprocess": steps,
        **changes,
    }


@pytest.mark.parametrize(
    ("steps", "method"),
    [
        ([MERGE], LORA),
        ([AVERAGE, {"quantize": {}}], LORA),
        ([MERGE, {"prune": {"sparsity": 0.5}}, {"quantize": {}}], LORA),
        ([MERGE, {"onnx": {"tolerance": 1e-4}}], {"qlora": {}}),
        ([{"quantize": {"scheme": "Int8WeightOnly"}}], {"full": {}}),
        ([{"quantize": {"scheme": "Int4Gptq", "groupSize": 32, "calibrationExamples": 64}}], {"full": {}}),
        ([{"quantize": {"scheme": "Int4Awq", "calibrationExamples": 64}}], {"full": {}}),
        ([{"prune": {}}, {"name": "again", "prune": {"pattern": "TwoOfFour"}}], {"full": {}}),
        ([MERGE, {"prune": {"pattern": "Structured", "heads": 0.25, "layers": 0.5}}], LORA),
        ([{"average": {"models": ["modelversion://a", "s3://models/b"]}}], LORA),
    ],
)
def test_a_chain_that_works_is_accepted(steps: list[dict[str, Any]], method: dict[str, Any]) -> None:
    assert len(FineTuneJobSpec.model_validate(spec(steps, method)).postprocess) == len(steps)


@pytest.mark.parametrize(
    ("steps", "method", "expected"),
    [
        ([MERGE, AVERAGE], LORA, "postprocess[1].average: averages what the training saved, not what a step has made"),
        ([AVERAGE, MERGE], LORA, "postprocess[1].merge: there is no adapter to merge; remove it"),
        ([AVERAGE], {"promptTuning": {}}, "average: what method.promptTuning learns is no part of a weight"),
        ([{"average": {"checkpoints": 1}}], LORA, "greater than or equal to 2"),
        (
            [{"average": {"models": ["s3://models/a"], "checkpoints": 3}}],
            LORA,
            "checkpoints and models are averages of two kinds; remove one of them",
        ),
        ([{"average": {"greedyBy": "f1"}}], LORA, "greedyBy chooses among models: set models, or remove it"),
        (
            [{"average": {"models": ["s3://models/a"], "greedyBy": "bleu"}}],
            LORA,
            "postprocess[0].average.greedyBy: TextClassification has no metric 'bleu'",
        ),
        (
            [{"average": {"models": ["s3://models/a"], "greedyBy": "f1"}}],
            LORA,
            "postprocess[0].average.greedyBy needs dataset.validation or dataset.split.validation",
        ),
        ([MERGE], {"full": {}}, "postprocess[0].merge: there is no adapter to merge; remove it"),
        ([MERGE, {"name": "b", "merge": {}}], LORA, "postprocess[1].merge: there is no adapter to merge"),
        ([MERGE], {"prefixTuning": {}}, "what method.prefixTuning learns is no part of a weight"),
        (
            [{"quantize": {}}],
            LORA,
            "postprocess[0].quantize: needs whole weights, and method.lora makes an adapter; put",
        ),
        ([{"onnx": {}}], {"pTuning": {}}, "method.pTuning makes an adapter; use lora or full"),
        ([{"quantize": {}}, {"onnx": {}}], {"full": {}}, "the step before makes the format Quantized; put it last"),
        ([{"prune": {}}, {"prune": {}}], {"full": {}}, "postprocess[1].name: there are two steps 'prune'"),
        (
            [{}],
            {"full": {}},
            "postprocess[0]: set exactly one of average, merge, prune, quantize, onnx, tflite; got none",
        ),
        ([{"merge": {}, "onnx": {}}], LORA, "got merge, onnx"),
        ([{"prune": {"sparsity": 1.0}}], {"full": {}}, "less than 1"),
        ([{"prune": {"sparsity": 0.2, "pattern": "TwoOfFour"}}], {"full": {}}, "TwoOfFour always is 0.5"),
        ([{"prune": {"pattern": "Structured"}}], {"full": {}}, "set heads, neurons or layers"),
        ([{"prune": {"neurons": 0.5}}], {"full": {}}, "are for pattern Structured; set it, or remove them"),
        (
            [{"quantize": {"groupSize": 64}}],
            {"full": {}},
            "groupSize is for Int4WeightOnly, Int4Gptq, Int4Awq: 8 bits have",
        ),
        (
            [{"quantize": {"scheme": "Int4WeightOnly", "calibrationExamples": 64}}],
            {"full": {}},
            "calibrationExamples is for Int4Gptq and Int4Awq: the other schemes look at no data; remove it",
        ),
        ([{"name": "Big Name", "prune": {}}], {"full": {}}, "postprocess[0].name"),
        ([{"prune": {}, "gate": [{"metric": "bleu", "operator": ">", "value": 1}]}], {"full": {}}, "no metric 'bleu'"),
    ],
)
def test_a_chain_that_cannot_work_is_refused(
    steps: list[dict[str, Any]], method: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        FineTuneJobSpec.model_validate(spec(steps, method))
    assert expected in "\n".join(map(str, field_errors(caught.value, FineTuneJobSpec)))


@pytest.mark.parametrize("task", ["Seq2Seq", "PreferenceOptimization", "ReinforcementLearning", "ObjectDetection"])
def test_parts_are_not_taken_out_of_every_model(task: str) -> None:
    step = {"prune": {"pattern": "Structured", "layers": 0.5}}
    with pytest.raises(ValidationError, match=rf"prune: pattern Structured is for .*, not {task}; set Unstructured"):
        FineTuneJobSpec.model_validate(spec([step], {"full": {}}, task=task))


def test_tflite_is_refused_where_the_server_could_not_use_it() -> None:
    with pytest.raises(ValidationError, match=r"tflite: is for ImageClassification, .* not TextGeneration; remove it"):
        FineTuneJobSpec.model_validate(spec([{"tflite": {}}], {"full": {}}, task="TextGeneration"))


def test_a_gate_against_the_trained_model_needs_a_step_after_it() -> None:
    gate = {"gate": [{"metric": "f1", "baseline": "Trained"}]}
    FineTuneJobSpec.model_validate(spec([MERGE], LORA, evaluation=gate))
    with pytest.raises(ValidationError, match=r"evaluation.gate\[0\].baseline: Trained is for what postprocess makes"):
        FineTuneJobSpec.model_validate(spec([], LORA, evaluation=gate))


def test_a_gate_of_a_step_needs_held_out_data() -> None:
    step = {"merge": {}, "gate": [{"metric": "f1", "operator": ">", "value": 0.5}]}
    alone = {"train": {"source": "s3://data/train.jsonl"}}
    with pytest.raises(ValidationError, match=r"postprocess\[0\].gate\[0\] needs held-out data"):
        FineTuneJobSpec.model_validate(spec([step], LORA, dataset=alone))
