"""Conversion to TFLite, where its extra is installed; elsewhere the job is refused before anything is trained."""

import importlib.util
from pathlib import Path

import pytest

from finetune_api.manifest import verify_folder
from finetune_api.postprocess import PostprocessStep
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess.suitability import check_packages
from serving.in_process import serving
from trainer import tiny_models
from trainer.in_process import run
from trainer.jobs import FULL
from trainer.postprocess.test_chain import answers, config, made
from trainer.tasks.task_cases import CASES
from trainer.tasks.test_every_task import ask, job_of

INSTALLED = importlib.util.find_spec("litert_torch") is not None
installed = pytest.mark.skipif(
    not INSTALLED, reason="needs finetune-operator[tflite], which does not go with [operator]"
)


@pytest.mark.skipif(INSTALLED, reason="finetune-operator[tflite] is here")
def test_a_trainer_without_the_extra_says_which_is_missing() -> None:
    step = PostprocessStep.model_validate({"tflite": {}})
    with pytest.raises(ConfigurationError, match=r"postprocess\[0\].tflite needs litert-torch.*\[tflite\]"):
        check_packages([step])


@installed
async def test_a_classifier_of_texts_answers_alike(tickets: Path, tmp_path: Path) -> None:
    model = tiny_models.bert(tmp_path / "bert", spread=0.2)
    wanted = config(tmp_path, model, tickets, [{"tflite": {"tolerance": 1e-4}}], method=FULL, learningRate=2e-3)
    result, _ = run(wanted, tmp_path)
    (step,) = result.postprocess
    assert step.format == "Tflite"
    assert step.metrics == pytest.approx(result.metrics, abs=1e-5)
    output = tmp_path / "output"
    files = verify_folder(made(output, "tflite"), step.artifact_digest)["files"]
    assert "model.tflite" in files
    assert "model.safetensors" not in files
    assert (await answers(made(output, "tflite"))).allclose(await answers(output), atol=1e-5)


@installed
@pytest.mark.parametrize("name", ["question-answering", "image-classification-vit", "token-classification"])
async def test_other_tasks_answer_alike(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    wanted = job_of(case, tmp_path, case.model(tmp_path / "model"), case.data(tmp_path / "data"))
    wanted = type(wanted).model_validate({**wanted.wire(), "postprocess": [{"tflite": {"tolerance": 1e-4}}]})
    result, _ = run(wanted, tmp_path)
    assert result.postprocess[0].metrics == pytest.approx(result.metrics, abs=1e-4)
    async with serving(tmp_path / "output-tflite", name="tiny") as server:
        await ask(server, case.inputs, case.answered, (await server.client.get("/v2/models/tiny")).json())
