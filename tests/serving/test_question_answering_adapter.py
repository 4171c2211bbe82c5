from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForQuestionAnswering

from finetune_serving.adapters import merged, read_adapter
from finetune_serving.question_answering_adapter import use_own_adapter
from trainer import tiny_models

INPUTS = {"input_ids": torch.tensor([[4, 9, 12, 7, 8]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
TYPES = torch.tensor([[0, 0, 1, 1, 1]])
VIRTUAL = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("base"), spread=0.2)


def adapted(base: Path, config: PeftConfig) -> torch.nn.Module:
    use_own_adapter()
    return get_peft_model(AutoModelForQuestionAnswering.from_pretrained(base), config)


def answers(model: torch.nn.Module, **inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**INPUTS, **inputs).start_logits


def test_an_adapter_sees_question_and_context_as_it_does_when_merged(base: Path, tmp_path: Path) -> None:
    config = LoraConfig(task_type="QUESTION_ANS", target_modules=["query", "value"], init_lora_weights=False)
    model = adapted(base, config)
    model.save_pretrained(tmp_path / "adapter")
    told = answers(model, token_type_ids=TYPES)
    assert not torch.allclose(told, answers(model), atol=1e-3)

    again = read_adapter(AutoModelForQuestionAnswering.from_pretrained(base), tmp_path / "adapter")
    assert torch.equal(answers(again, token_type_ids=TYPES), told)
    torch.testing.assert_close(answers(merged(again), token_type_ids=TYPES), told)


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
def test_virtual_tokens_let_it_see_them_too(base: Path, kind: type[PeftConfig]) -> None:
    model = adapted(base, kind(task_type="QUESTION_ANS", num_virtual_tokens=VIRTUAL))
    told = answers(model, token_type_ids=TYPES)
    assert not torch.allclose(told, answers(model), atol=1e-3)
    torch.testing.assert_close(answers(model, token_type_ids=torch.zeros_like(TYPES)), answers(model))


def test_virtual_tokens_before_the_text_are_of_the_questions_type(base: Path) -> None:
    model = adapted(base, PromptTuningConfig(task_type="QUESTION_ANS", num_virtual_tokens=VIRTUAL))
    bert = model.get_base_model()
    with torch.no_grad():
        words = bert.get_input_embeddings()(INPUTS["input_ids"])
        embedded = torch.cat([model.get_prompt(batch_size=1), words], dim=1)
        types = torch.cat([torch.zeros(1, VIRTUAL, dtype=torch.long), TYPES], dim=1)
        mask = torch.ones(1, VIRTUAL + 5)
        expected = bert.eval()(inputs_embeds=embedded, attention_mask=mask, token_type_ids=types).start_logits
    torch.testing.assert_close(answers(model, token_type_ids=TYPES), expected)
