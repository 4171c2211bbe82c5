"""Examples handed on some at a time: many, so that a tokenizer can work in parallel, but no more than memory holds."""

from collections.abc import Iterable, Iterator

from finetune_trainer.data.examples import Example
from finetune_trainer.data.texts import texts_in

CHARACTERS = 4 << 20
"""Of text in a chunk: 40 MB of token ids while they are a list."""


def chunks(examples: Iterable[Example], most: int) -> Iterator[list[Example]]:
    """All examples in order; a chunk ends after `most` of them, or when they are long."""
    chunk: list[Example] = []
    characters = 0
    for example in examples:
        chunk.append(example)
        characters += sum(map(len, texts_in(example.content)))
        if len(chunk) == most or characters >= CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk
