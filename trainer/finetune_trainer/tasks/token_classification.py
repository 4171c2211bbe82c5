"""A tag for each word of a text: named entities."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from peft import TaskType
from transformers import AutoModelForTokenClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES

from finetune_api.dataset import Columns
from finetune_serving.windows import TextRange
from finetune_trainer.data.batches import Batch, Collate, padded_ids
from finetune_trainer.data.encoded import LABEL, NO_LABEL, Encoded, Features
from finetune_trainer.data.entities import OUTSIDE, Entity, marked_spans, tagged_text, tags_of_words
from finetune_trainer.data.examples import Example, column, text_column
from finetune_trainer.data.parts import Parts
from finetune_trainer.data.reading import Row
from finetune_trainer.data.rows import RowOfExamples
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.metrics.entities import CUT, EntityScores
from finetune_trainer.tasks.classes import CLASSIFIER_HEADS, name_classes
from finetune_trainer.tasks.cross_entropy import CrossEntropy
from finetune_trainer.tasks.text_task import TextTask


class TokenClassification(CrossEntropy, TextTask):
    """Columns `tokens` and `tags`, or `text` and `entities`.

    A word is what the tokenizer takes for one; its tag is learnt at its first token, as in BERT's paper (Devlin et
    al. 2019, section 5.3). Serving cuts a text into the same words.
    """

    name = "TokenClassification"
    model_class = AutoModelForTokenClassification
    model_types = MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES
    heads = CLASSIFIER_HEADS
    peft_type = TaskType.TOKEN_CLS

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._tokens, self._tags = columns.tokens or "tokens", columns.tags or "tags"
        self._text, self._entities = columns.text or "text", columns.entities or "entities"

    def read(self, row: Row) -> Example:
        if self._tagged(row):
            words = column(row, self._tokens, "dataset.columns.tokens")
            tags = column(row, self._tags, "dataset.columns.tags")
            text, entities = tagged_text(words, tags, row.where, (self._tokens, self._tags))
        else:
            text = text_column(row, self._text, "dataset.columns.text")
            marked = column(row, self._entities, "dataset.columns.entities")
            entities = marked_spans(text, marked, row.where, self._entities)
        return Example(text, row.where, target=entities)

    def _tagged(self, row: Row) -> bool:
        if self._columns.tokens or self._columns.tags:
            return True
        return not (self._columns.text or self._columns.entities) and self._tokens in row.values

    def check_tokenizer(self, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise ConfigurationError(
                "model.source: the tokenizer cannot tell which characters a token stands for; use a model with a "
                "tokenizer.json"
            )

    def labels(self, parts: Parts) -> list[str]:
        known = sorted({entity.type for example in parts.train for entity in example.target})
        if not known:
            raise DataError("dataset.train: no example has an entity, so there is nothing to learn")
        for part in (parts.validation, parts.test):
            for example in part:
                for entity in example.target:
                    if entity.type not in known:
                        raise DataError(
                            f"{example.where}: the entity type {entity.type!r} is in no training example, so the "
                            f"model cannot learn it; training has: {', '.join(known[:20])}"
                        )
        return [OUTSIDE, *(f"{prefix}-{kind}" for kind in known for prefix in "BI")]

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        super().configure(config, processor, labels)
        name_classes(config, labels)

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        return _tagged_tokens(examples, processor, labels)

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """By the tokenizer, which keeps its closing special token. The tags of words that are cut off are kept."""
        short = _tagged_tokens([example], processor, labels, truncation=True, max_length=max_length)[0]
        tags = [tag for tag in features.columns[LABEL] if tag != NO_LABEL]
        cut = tags[: -short.targets or None] if _cuts_before(processor) else tags[short.targets :]
        return replace(short, columns={**short.columns, CUT: cut})

    def pieces(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> list[Features]:
        """Overlapping windows; each word is learnt in the one that shows more of its neighbours."""
        encoded = processor(example.content, verbose=False)
        text = TextRange.of(encoded.sequence_ids(0), 0)
        ids, tags = list(features.columns["input_ids"]), list(features.columns[LABEL])
        pieces = []
        for window in text.windows(len(ids), max_length):
            own = [tag if window.first <= place < window.last else NO_LABEL for place, tag in enumerate(tags)]
            shown, learnt = text.shown(ids, window), text.shown(own, window)
            targets = sum(tag != NO_LABEL for tag in learnt)
            pieces.append(Features({"input_ids": shown, LABEL: learnt, CUT: []}, len(shown), targets))
        return pieces

    def collator(self, processor: Any) -> Collate:
        def collate(encoded: Encoded, rows: Sequence[RowOfExamples]) -> Batch:
            examples = [row[0] for row in rows]
            ids, mask = padded_ids(encoded, examples, processor.pad_token_id)
            labels, _ = padded_ids(encoded, examples, NO_LABEL, LABEL)
            positions = (labels.flatten() != NO_LABEL).nonzero().flatten()
            return Batch({"input_ids": ids, "attention_mask": mask}, positions, labels.flatten()[positions])

        return collate

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> EntityScores:
        return EntityScores(labels, encoded, _cuts_before(processor))


def _cuts_before(tokenizer: Any) -> bool:
    return bool(tokenizer.truncation_side == "left")


def _tagged_tokens(examples: list[Example], tokenizer: Any, labels: list[str], **options: Any) -> list[Features]:
    texts = [example.content for example in examples]
    encoded = tokenizer(texts, return_offsets_mapping=True, verbose=False, **options)
    places = {label: index for index, label in enumerate(labels)}
    features = []
    for number, example in enumerate(examples):
        ids = encoded["input_ids"][number]
        tagged = _first_tokens(example, encoded.word_ids(number), encoded["offset_mapping"][number])
        tags = [NO_LABEL] * len(ids)
        for place, tag in tagged.items():
            tags[place] = places[tag]
        features.append(Features({"input_ids": ids, LABEL: tags, CUT: []}, len(ids), len(tagged)))
    return features


def _first_tokens(example: Example, word_ids: list[int | None], offsets: list[tuple[int, int]]) -> dict[int, str]:
    """The tag of each word, at the place of its first token that is no blank."""
    text: str = example.content
    entities: list[Entity] = example.target
    words: dict[int, tuple[int, int, int]] = {}
    for place, (word, (start, end)) in enumerate(zip(word_ids, offsets, strict=True)):
        if word is not None and text[start:end].strip():
            start += len(text[start:end]) - len(text[start:end].lstrip())
            first, begins, _ = words.get(word, (place, start, end))
            words[word] = (first, begins, end)
    tags = tags_of_words([(start, end) for _, start, end in words.values()], entities)
    return {first: tag for (first, _, _), tag in zip(words.values(), tags, strict=True)}
