"""Adapters of models that answer questions, which see what is question and what is context.

PEFT 0.21's own class takes `token_type_ids` and passes them on to nobody: trained so, an adapter of a BERT would answer
otherwise once it is merged. Virtual tokens go on without them, in training and when served.
"""

from typing import Any

from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel, PeftModelForQuestionAnswering, TaskType


class QuestionAnsweringAdapter(PeftModelForQuestionAnswering):
    """Stands for PEFT's class wherever an adapter is made or read."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The base model's outputs; what it is given is what this is given."""
        if self.active_peft_config.is_prompt_learning:
            return super().forward(*inputs, **named)
        return PeftModel.forward(self, *inputs, **named)


def use_own_adapter() -> None:
    """Tells PEFT of the class; again is no harm."""
    MODEL_TYPE_TO_PEFT_MODEL_MAPPING[TaskType.QUESTION_ANS.value] = QuestionAnsweringAdapter
