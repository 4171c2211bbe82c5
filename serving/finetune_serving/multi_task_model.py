"""One encoder with a head for each of several tasks. Trainer and server share it.

The encoder stands in the model where transformers' own models for one task have it, so its files load as theirs do:
from an encoder, or a model with another head, and `AutoModel.from_pretrained` finds the encoder in what is saved here.
"""

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PreTrainedModel
from transformers.modeling_outputs import (
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

HEADS = "task_heads"
"""Name of the module with the heads, and of what config.json says of them."""
DROPOUTS = ("classifier_dropout", "hidden_dropout_prob", "dropout")
"""Of a head, the first that a configuration has."""
Heads = Mapping[str, Mapping[str, Any]]
"""By the names of subtasks: `task`, and `labels` where its answers are classes."""
Selection = tuple[Tensor, int]
"""The rows of a batch that are a subtask's, and the width of the longest of them."""


class Head(nn.Module):
    """A linear layer on every token, or, for a class of the whole text, on what a dense layer makes of the first."""

    def __init__(self, config: Any, task: str, outputs: int) -> None:
        super().__init__()
        self.task = task
        self.dropout = nn.Dropout(_dropout(config))
        self.dense = nn.Linear(config.hidden_size, config.hidden_size) if task == "TextClassification" else None
        self.output = nn.Linear(config.hidden_size, outputs)

    def forward(self, hidden: Tensor) -> Any:
        """`hidden` is (rows, width, features)."""
        if self.dense is not None:
            summary = torch.tanh(self.dense(self.dropout(hidden[:, 0])))
            return SequenceClassifierOutput(logits=self.output(self.dropout(summary)))
        logits = self.output(self.dropout(hidden))
        if self.task == "TokenClassification":
            return TokenClassifierOutput(logits=logits)
        starts, ends = logits.unbind(-1)
        return QuestionAnsweringModelOutput(start_logits=starts, end_logits=ends)


class TaskHeads(nn.Module):
    """The heads by the names of their subtasks."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        heads = getattr(config, HEADS, {})
        self.names = list(heads)
        for name, about in heads.items():
            self.add_module(_module_name(name), Head(config, about["task"], len(about.get("labels") or ()) or 2))

    def forward(self, hidden: Tensor, selected: Mapping[str, Selection] | None) -> dict[str, Any]:
        if selected is None:
            return {name: self._of(name)(hidden) for name in self.names}
        return {name: self._said(name, hidden, *chosen) for name, chosen in selected.items()}

    def _said(self, name: str, hidden: Tensor, rows: Tensor, width: int) -> Any:
        if len(rows):
            return self._of(name)(hidden.index_select(0, rows)[:, :width])
        # Kernels of quantized layers do not take an input without rows, so what is said of one is thrown away.
        said = self._of(name)(hidden[:1, :1])
        return type(said)(**{key: value[:0] for key, value in said.items()})

    def _of(self, name: str) -> Head:
        head: Head = getattr(self, _module_name(name))
        return head


class OneHead:
    """Called as a model of transformers for one task is."""

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self._name = name

    @property
    def config(self) -> Any:
        return self._model.config

    @property
    def device(self) -> torch.device:
        device: torch.device = self._model.device
        return device

    def __call__(self, **inputs: Tensor) -> Any:
        ids = inputs["input_ids"]
        everything = torch.arange(len(ids), device=ids.device), ids.shape[1]
        return self._model(**inputs, selected={self._name: everything})[self._name]


class MultiTaskHeads:
    """What makes a multi-task model of transformers' base class of a family."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        setattr(self, self.base_model_prefix, _encoder(config))  # type: ignore[attr-defined]
        setattr(self, HEADS, TaskHeads(config))
        self.post_init()  # type: ignore[attr-defined]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        selected: Mapping[str, Selection] | None = None,
    ) -> dict[str, Any]:
        """What each head says of its rows; with nothing selected, what each says of all of them."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        hidden = getattr(self, self.base_model_prefix)(**inputs).last_hidden_state  # type: ignore[attr-defined]
        answers: dict[str, Any] = getattr(self, HEADS)(hidden, selected)
        return answers

    def subtask(self, name: str) -> OneHead:
        """The model as if it had this one head. Raises KeyError for a name that it does not know."""
        if name not in getattr(self.config, HEADS):  # type: ignore[attr-defined]
            raise KeyError(name)
        return OneHead(self, name)


class MultiTaskModel:
    """Makes the models, as the Auto classes of transformers do."""

    @staticmethod
    def from_pretrained(folder: str, *, config: Any = None, heads: Heads | None = None, **options: Any) -> Any:
        """From an encoder, for which `heads` or the configuration must say what heads are new, or from what was saved.

        `options` and what is returned are those of transformers' `from_pretrained`.
        """
        config = config or AutoConfig.from_pretrained(folder, local_files_only=options.get("local_files_only", False))
        options.pop("trust_remote_code", None)
        return _model_class(_with_heads(config, heads)).from_pretrained(folder, config=config, **options)

    @staticmethod
    def from_config(config: Any, *, trust_remote_code: bool = False, **options: Any) -> Any:
        """With random weights, and without heads where the configuration does not name them yet."""
        return _model_class(config)._from_config(config, **options)


def _with_heads(config: Any, heads: Heads | None) -> Any:
    if heads is not None:
        setattr(config, HEADS, {name: dict(about) for name, about in heads.items()})
    if not getattr(config, HEADS, None):
        raise ValueError(f"config.json has no {HEADS}: this is no multi-task model; give its heads")
    return config


def _model_class(config: Any) -> Any:
    return _class_of_encoder(_encoder_class(config))


def _encoder_class(config: Any) -> Any:
    found: Any = MODEL_MAPPING[type(config)]
    return found[0] if isinstance(found, tuple) else found


@lru_cache
def _class_of_encoder(encoder: Any) -> Any:
    """A class beside BertForSequenceClassification and its like: weights and settings are named as there."""
    family = next(kind for kind in encoder.__mro__ if PreTrainedModel in kind.__bases__)
    return type(family.__name__.replace("PreTrainedModel", "ForMultiTask"), (MultiTaskHeads, family), {})


def _encoder(config: Any) -> Any:
    """Without the pooler that some have: each head brings its own, and weights without a gradient would stay behind."""
    pools = "add_pooling_layer" in inspect.signature(_encoder_class(config)).parameters
    return AutoModel.from_config(config, **({"add_pooling_layer": False} if pools else {}))


def _dropout(config: Any) -> float:
    found = (getattr(config, name, None) for name in DROPOUTS)
    return next((float(rate) for rate in found if isinstance(rate, float | int)), 0.0)


def _module_name(subtask: str) -> str:
    """No name of a module's own attribute, such as `train`."""
    return f"{subtask}_head"
