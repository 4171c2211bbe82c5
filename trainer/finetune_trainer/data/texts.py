"""The texts inside an example, whatever its form: one text, a prompt and its completion, or turns of a chat."""

from collections.abc import Callable, Iterator
from typing import Any

NOT_TEXT = ("role", "name", "tool_call_id", "type", "id")
"""Keys of a chat turn, of a call or of a tool whose values are names."""
TOOLS = "tools"
"""Beside the turns: what may be called. No part of what was said, and often the same in all chats."""
ARGUMENTS = "arguments"
"""Of a call: every value may be a text, whatever it is called, such as `name`."""


def texts_in(content: Any) -> Iterator[str]:
    """Every text, in order; a list of words is one. What a call has no words beside is no text."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list) and content and all(isinstance(word, str) for word in content):
        yield " ".join(content)
    elif isinstance(content, dict):
        silent = bool(content.get("tool_calls")) and not (content.get("content") or "").strip()
        for key, value in content.items():
            if key == ARGUMENTS:
                yield from _leaves(value)
            elif key not in NOT_TEXT and key != TOOLS and not (silent and key == "content"):
                yield from texts_in(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from texts_in(value)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)


def with_texts(content: Any, change: Callable[[str], str], names: tuple[str, ...] = NOT_TEXT) -> Any:
    """The same content with every text changed, those of tools too; what stands under one of `names` stays."""
    if isinstance(content, str):
        return change(content)
    if isinstance(content, dict):
        return {
            key: value if key in names else with_texts(value, change, () if key == ARGUMENTS else names)
            for key, value in content.items()
        }
    if isinstance(content, list | tuple):
        return type(content)(with_texts(value, change, names) for value in content)
    return content
