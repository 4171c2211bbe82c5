"""The texts inside an example, whatever its form: one text, a prompt and its completion, or turns of a chat."""

from collections.abc import Callable, Iterator
from typing import Any

NOT_TEXT = ("role", "name", "tool_call_id", "type", "id")
"""Keys of a chat turn whose values are names."""


def texts_in(content: Any) -> Iterator[str]:
    """Every text, in order; a list of words is one."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list) and content and all(isinstance(word, str) for word in content):
        yield " ".join(content)
    elif isinstance(content, dict):
        for key, value in content.items():
            if key not in NOT_TEXT:
                yield from texts_in(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from texts_in(value)


def with_texts(content: Any, change: Callable[[str], str]) -> Any:
    """The same content with every text changed."""
    if isinstance(content, str):
        return change(content)
    if isinstance(content, dict):
        return {key: value if key in NOT_TEXT else with_texts(value, change) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(with_texts(value, change) for value in content)
    return content
