"""Adapters of models that answer questions, which see what is question and what is context.

PEFT 0.21's own class takes `token_type_ids` and passes them on to nobody: trained so, an adapter of a BERT would answer
otherwise once it is merged, and virtual tokens would learn to make up for what they do not see.
"""

from typing import Any

import torch
from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel, PeftModelForQuestionAnswering, PeftType, TaskType
from torch import Tensor


class QuestionAnsweringAdapter(PeftModelForQuestionAnswering):
    """Stands for PEFT's class wherever an adapter is made or read."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The base model's outputs; what it is given is what this is given. Virtual tokens are of type 0."""
        if not self.active_peft_config.is_prompt_learning:
            return PeftModel.forward(self, *inputs, **named)
        if named.get("token_type_ids") is None:
            return super().forward(*inputs, **named)
        return self._behind_virtual_tokens(*inputs, **named)

    def _behind_virtual_tokens(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, **named: Any
    ) -> Any:
        """As PEFT's other classes do it, such as the one for token classification."""
        config, rows = self.active_peft_config, len(input_ids)
        mask = torch.cat([attention_mask.new_ones(rows, config.num_virtual_tokens), attention_mask], dim=1)
        if config.peft_type == PeftType.PREFIX_TUNING:
            given = {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": token_type_ids}
            return self._prefix_tuning_forward(**given, return_dict=True, **named)
        words = self.word_embeddings(input_ids)  # type: ignore[misc]
        types = torch.cat([token_type_ids.new_zeros(rows, config.num_virtual_tokens), token_type_ids], dim=1)
        embedded = torch.cat([self.get_prompt(batch_size=rows).to(words.dtype), words], dim=1)
        return self.base_model(inputs_embeds=embedded, attention_mask=mask, token_type_ids=types, **named)


def use_own_adapter() -> None:
    """Tells PEFT of the class; again is no harm."""
    MODEL_TYPE_TO_PEFT_MODEL_MAPPING[TaskType.QUESTION_ANS.value] = QuestionAnsweringAdapter
