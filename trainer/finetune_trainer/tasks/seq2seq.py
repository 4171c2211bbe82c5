"""Writes one text for another: summarisation, translation."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from peft import TaskType
from torch import Tensor, from_numpy, tensor
from transformers import AutoModelForSeq2SeqLM
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

from finetune_api.dataset import Columns
from finetune_trainer.data.batches import Batch, Collate, padded, padded_ids
from finetune_trainer.data.encoded import Encoded, Features
from finetune_trainer.data.examples import Example, text_column
from finetune_trainer.data.reading import Row
from finetune_trainer.data.rows import RowOfExamples
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.metrics.written_text import WrittenTextScores
from finetune_trainer.tasks.cross_entropy import CrossEntropy
from finetune_trainer.tasks.text_task import TextTask, require_end

WRITTEN = "target_ids"
"""The column of the tokens to write, the end token last."""
EXPECTED = "expected"
"""The column of the text to write, whole and as it stands in the data, whatever had room and the tokenizer knows."""


class Seq2Seq(CrossEntropy, TextTask):
    """Columns `prompt` and `completion`, for an encoder that reads and a decoder that writes."""

    name = "Seq2Seq"
    model_class = AutoModelForSeq2SeqLM
    model_types = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    heads = ()
    peft_type = TaskType.SEQ_2_SEQ_LM

    def __init__(self, columns: Columns) -> None:
        self._prompt, self._completion = columns.prompt or "prompt", columns.completion or "completion"
        self._start = 0

    def read(self, row: Row) -> Example:
        prompt = text_column(row, self._prompt, "dataset.columns.prompt")
        return Example((prompt, text_column(row, self._completion, "dataset.columns.completion")), row.where)

    def check_tokenizer(self, tokenizer: Any) -> None:
        require_end(tokenizer)

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        """Learns from the configuration which token every written text starts after."""
        super().configure(config, processor, labels)
        start = getattr(config, "decoder_start_token_id", None)
        if start is None:
            raise ConfigurationError(
                "model.source: config.json has no decoder_start_token_id, which the decoder begins with; add it"
            )
        self._start = start

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        read = processor([e.content[0] for e in examples], verbose=False)["input_ids"]
        written = processor(text_target=[e.content[1] for e in examples], verbose=False)["input_ids"]
        eos = processor.eos_token_id
        return [_features(ids, _ended(to, eos), e) for ids, to, e in zip(read, written, examples, strict=True)]

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """Cuts the prompt; the completion only where it takes more than half of the room."""
        target = list(features.columns[WRITTEN])
        room = max(max_length - len(target), max_length // 2)
        ids = processor(example.content[0], truncation=True, max_length=room)["input_ids"]
        return _features(ids, target[: max_length - len(ids)], example)

    def collator(self, processor: Any) -> Collate:
        def collate(encoded: Encoded, rows: Sequence[RowOfExamples]) -> Batch:
            examples = [row[0] for row in rows]
            pad = processor.pad_token_id
            ids, mask = padded_ids(encoded, examples, pad)
            written, learnt = padded_ids(encoded, examples, pad, WRITTEN)
            places = learnt.flatten().nonzero().flatten()
            inputs = {
                "input_ids": ids,
                "attention_mask": mask,
                "decoder_input_ids": self._shifted(encoded, examples, pad),
            }
            longest = tensor(int(np.diff(encoded[WRITTEN].offsets).max()))
            return Batch(inputs, places, written.flatten()[places], {"use_cache": False}, {"longest": longest})

        return collate

    def _shifted(self, encoded: Encoded, examples: list[int], pad: int) -> Tensor:
        rows = [np.concatenate([[self._start], encoded[WRITTEN][i][:-1]]) for i in examples]
        return from_numpy(padded(rows, pad).astype(np.int64))

    def predictions(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of the expected tokens, and what the model writes: the likeliest token each time."""
        asked = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
        written = model.generate(**asked, max_new_tokens=2 * int(batch.extras["longest"]), do_sample=False, num_beams=1)
        return self.outputs(model, batch), written

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> WrittenTextScores:
        decode = partial(processor.batch_decode, skip_special_tokens=True)
        return WrittenTextScores(lambda rows: [encoded[EXPECTED][row].tobytes().decode() for row in rows], decode)


def _ended(target: list[int], eos: int) -> list[int]:
    """With its end, unless it has one; mBART's tokenizer writes the language behind it."""
    return target if eos in target[-2:] else [*target, eos]


def _features(ids: list[int], target: list[int], example: Example) -> Features:
    columns = {"input_ids": ids, WRITTEN: target, EXPECTED: example.content[1].encode()}
    return Features(columns, len(ids) + len(target), len(target))
