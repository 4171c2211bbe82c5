"""Rows that say which of two completions is better, or whether one is good."""

from typing import Any

from finetune_api.dataset import Columns
from finetune_trainer.data.examples import Example, column, label_column, text_column
from finetune_trainer.data.row import Row
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.turns import Turn, turns_of

ASKING = ("system", "user")
GOOD = {"true": True, "1": True, "false": False, "0": False}


class PairReader:
    """`prompt`, `chosen` and `rejected`, as texts or as chat turns; whole chats need no prompt.

    What it gives is `{"prompt", "chosen", "rejected"}`: three texts, or three lists of turns.
    """

    def __init__(self, columns: Columns) -> None:
        self._prompt = columns.prompt
        self._completions = {"chosen": columns.chosen or "chosen", "rejected": columns.rejected or "rejected"}

    def read(self, row: Row) -> Example:
        """Raises DataError naming the row and what is wrong."""
        if self._completions["chosen"] not in row.values and "completion" in row.values:
            raise DataError(
                f"{row.where}: no column {self._completions['chosen']!r}, but 'completion': single completions with a "
                "label are for PreferenceOptimization with preference.loss KTO; pairs have prompt, chosen and rejected"
            )
        completions = {role: completion_in(row, name, role) for role, name in self._completions.items()}
        content = _with_prompt(prompt_in(row, self._prompt), completions, row)
        if content["chosen"] == content["rejected"]:
            raise DataError(f"{row.where}: chosen and rejected are the same; remove the row")
        return Example(content, row.where)


class JudgedReader:
    """`prompt`, `completion` and `label`: whether the completion is good.

    What it gives is `{"prompt", "completion"}`, two texts or two lists of turns, and the label.
    """

    def __init__(self, columns: Columns) -> None:
        self._prompt = columns.prompt
        self._completion = columns.completion or "completion"
        self._label = columns.label or "label"

    def read(self, row: Row) -> Example:
        """Raises DataError naming the row and what is wrong."""
        if self._completion not in row.values and "chosen" in row.values:
            raise DataError(
                f"{row.where}: no column {self._completion!r}, but 'chosen': pairs are for preference.loss DPO; KTO "
                "wants prompt, completion and label"
            )
        completion = completion_in(row, self._completion, "completion")
        label = label_column(row, self._label, "dataset.columns.label").lower()
        if label not in GOOD:
            raise DataError(f"{row.where}: column {self._label!r} holds {label!r}; it must be true or false")
        content = _with_prompt(prompt_in(row, self._prompt), {"completion": completion}, row)
        return Example(content, row.where, label="good" if GOOD[label] else "bad")


def prompt_in(row: Row, name: str | None) -> str | list[Turn] | None:
    """Text, or turns in either form; None when there is no such column."""
    if name is None:
        name = next((usual for usual in ("prompt", "conversations", "messages") if usual in row.values), None)
        if name is None:
            return None
    value = column(row, name, "dataset.columns.prompt")
    return (
        turns_of(value, row.where, name)
        if isinstance(value, list)
        else text_column(row, name, "dataset.columns.prompt")
    )


def completion_in(row: Row, name: str, role: str) -> str | list[Turn]:
    """Text, one turn, or turns."""
    value = column(row, name, f"dataset.columns.{role}")
    if isinstance(value, list | dict):
        return turns_of(value, row.where, name)
    return text_column(row, name, f"dataset.columns.{role}")


def _with_prompt(prompt: str | list[Turn] | None, completions: dict[str, Any], row: Row) -> dict[str, Any]:
    """All of them texts, or all of them turns that follow each other."""
    chat = isinstance(prompt, list) or any(isinstance(one, list) for one in completions.values())
    if prompt is None:
        if not chat or not all(isinstance(one, list) for one in completions.values()):
            raise DataError(f"{row.where}: no column 'prompt'; add it, or give whole chats. Set dataset.columns.prompt")
        prompt, completions = _divided(completions)
    elif _are_whole(completions, prompt):
        told, (prompt, completions) = prompt, _divided(completions)
        if isinstance(told, str) and not any(turn.get("content") == told for turn in prompt):
            raise DataError(
                f"{row.where}: {' and '.join(completions)} are whole chats, which do not begin with the prompt; remove "
                "the column 'prompt', or the turns before the answer"
            )
    elif chat:
        prompt = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        completions = {role: _as_turns(one) for role, one in completions.items()}
    for role, turns in completions.items():
        if chat and (not turns or turns[-1]["role"] != "assistant"):
            raise DataError(f"{row.where}: {role} does not end with a turn of the assistant")
    return {"prompt": prompt, **completions}


def _as_turns(completion: str | list[Turn]) -> list[Turn]:
    return [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion


def _divided(chats: dict[str, list[Turn]]) -> tuple[list[Turn], dict[str, Any]]:
    """The turns that all begin with, and what is left of each."""
    shared = _shared_start(list(chats.values()))
    return next(iter(chats.values()))[:shared], {role: turns[shared:] for role, turns in chats.items()}


def _are_whole(completions: dict[str, Any], prompt: str | list[Turn]) -> bool:
    """Whether they hold the prompt once more, as those of UltraFeedback do."""
    chats = [one for one in completions.values() if isinstance(one, list) and one[0]["role"] in ASKING]
    again = isinstance(prompt, str) or all(chat[: len(prompt)] == prompt for chat in chats)
    return again and len(chats) == len(completions)


def _shared_start(chats: list[list[Turn]]) -> int:
    """How many turns all have in common; one chat keeps its last turn for itself."""
    shared = 0
    while all(len(chat) > shared + 1 for chat in chats) and all(chat[shared] == chats[0][shared] for chat in chats):
        shared += 1
    return shared
