from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForQuestionAnswering

from finetune_serving.adapters import merged, read_adapter
from finetune_serving.question_answering_adapter import use_own_adapter
from trainer import tiny_models

INPUTS = {"input_ids": torch.tensor([[4, 9, 12, 7, 8]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
TYPES = torch.tensor([[0, 0, 1, 1, 1]])


def answers(model: torch.nn.Module, **inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**INPUTS, **inputs).start_logits


def test_an_adapter_sees_question_and_context_as_it_does_when_merged(tmp_path: Path) -> None:
    base = tiny_models.bert(tmp_path / "base", spread=0.2)
    use_own_adapter()
    config = LoraConfig(task_type="QUESTION_ANS", target_modules=["query", "value"], init_lora_weights=False)
    adapted = get_peft_model(AutoModelForQuestionAnswering.from_pretrained(base), config)
    adapted.save_pretrained(tmp_path / "adapter")
    told = answers(adapted, token_type_ids=TYPES)
    assert not torch.allclose(told, answers(adapted), atol=1e-3)

    again = read_adapter(AutoModelForQuestionAnswering.from_pretrained(base), tmp_path / "adapter")
    assert torch.equal(answers(again, token_type_ids=TYPES), told)
    torch.testing.assert_close(answers(merged(again), token_type_ids=TYPES), told)
