"""How rows hold texts to learn from: as one text, prompt and completion, chat turns, Alpaca's or ShareGPT's."""

from typing import Any

from finetune_api.dataset import Columns, TextLayout
from finetune_trainer.data.examples import column, text_column
from finetune_trainer.data.row import Row, Where
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.turns import Turn, check_turns, has_speakers, roles_of, tools_of, turns_of

LAYOUTS: dict[TextLayout, dict[str, str]] = {
    "Messages": {"messages": "messages"},
    "ShareGPT": {"messages": "conversations"},
    "PromptCompletion": {"prompt": "prompt", "completion": "completion"},
    "Alpaca": {"instruction": "instruction", "output": "output"},
    "Text": {"text": "text"},
}
"""Fields of `dataset.columns` that a layout needs, and the usual name of each column."""

SPEAKER = {"prompt": "user", "completion": "assistant"}
ALPACA = (
    "Below is an instruction that describes a task{paired}. Write a response that appropriately completes the request."
)
PAIRED = ", paired with an input that provides further context"
"""The prompt that Alpaca was trained with: https://github.com/tatsu-lab/stanford_alpaca#data-release"""


class TextReader:
    """Reads rows of one layout: the one asked for, or the one that the first row has.

    What it gives is JSON whose form tells the layout: a text, a (prompt, completion) pair of two texts or two lists of
    turns, a list of turns, `{"turns", "tools"}`, or `{"instruction", "output"}` with, perhaps, `"input"`, `"system"`.
    """

    def __init__(self, columns: Columns, layout: TextLayout = "Auto") -> None:
        self._columns = columns
        self._layout = layout

    def read(self, row: Row) -> Any:
        """Raises DataError naming the row, and the field or turn that is wrong."""
        if self._layout == "Auto":
            self._layout = self._detected(row)
        match self._layout:
            case "Messages" | "ShareGPT":
                turns, tools = self._turns(row), tools_of(row)
                return {"turns": turns, "tools": tools} if tools else turns
            case "Alpaca":
                return self._alpaca(row)
            case "Text":
                return self._text("text", row)
        return self._pair(row)

    def _pair(self, row: Row) -> Any:
        """Texts, or turns where one of them is turns, as TRL has it."""
        names = self._names("PromptCompletion")
        values = {role: column(row, name, f"dataset.columns.{role}") for role, name in names.items()}
        if not any(isinstance(value, list | dict) for value in values.values()):
            return self._text("prompt", row), self._text("completion", row)
        if tools_of(row):
            raise DataError(f"{row.where}: tools go with turns in one column: messages, or dataset.columns.messages")
        spoken = {
            role: [{"role": SPEAKER[role], "content": v}] if isinstance(v, str) else v for role, v in values.items()
        }
        return tuple(turns_of(turns, row.where, names[role]) for role, turns in spoken.items())

    def _alpaca(self, row: Row) -> Any:
        told = {"instruction": self._text("instruction", row), "output": self._text("output", row)}
        if more := _text_if_any(row, self._columns.input or "input"):
            told["input"] = more
        earlier = row.values.get("history") or []
        if not earlier:
            return told | {key: turn["content"] for key, turn in zip(["system"], _system(row), strict=False)}
        # Further rounds have no place in Alpaca's prompt: they are turns of a chat.
        return [*_system(row), *_rounds(earlier, row.where), *alpaca_turns(told)]

    def _detected(self, row: Row) -> TextLayout:
        asked = [one for one, roles in LAYOUTS.items() if any(getattr(self._columns, role) for role in roles)]
        there = (one for one in asked or LAYOUTS if all(name in row.values for name in self._names(one).values()))
        layout = next(there, asked[0] if asked else None)
        if layout is None:
            found = ", ".join(row.values) or "none"
            raise DataError(
                f"{row.where}: none of the columns messages or conversations, prompt and completion, instruction and "
                f"output, or text; the columns are: {found}. Set dataset.columns.text, .prompt and .completion, "
                ".instruction and .output, or .messages"
            )
        if "messages" not in LAYOUTS[layout]:
            return layout
        turns = row.values.get(self._names(layout)["messages"])
        return "ShareGPT" if has_speakers(turns) else "Messages"

    def _names(self, layout: TextLayout) -> dict[str, str]:
        return {role: getattr(self._columns, role) or usual for role, usual in LAYOUTS[layout].items()}

    def _turns(self, row: Row) -> list[Turn]:
        # Either name is common for either form of a turn.
        usual = next((name for name in ("messages", "conversations") if name in row.values), "messages")
        name = self._columns.messages or usual
        value = column(row, name, "dataset.columns.messages")
        if self._layout == "ShareGPT":
            value = [*_system(row), *roles_of(value, row.where, name)]
        return check_turns(value, row.where, name)

    def _text(self, role: str, row: Row) -> str:
        return text_column(row, self._names(self._layout)[role], f"dataset.columns.{role}")


def in_form_for(content: Any, tokenizer: Any) -> Any:
    """Alpaca's columns as turns for a model with a chat template, else as Alpaca's own prompt; the rest as it is."""
    if not isinstance(content, dict) or "turns" in content:
        return content
    if tokenizer.chat_template:
        return alpaca_turns(content)
    system = f"{content['system']}\n\n" if "system" in content else ""
    more = f"\n\n### Input:\n{content['input']}" if "input" in content else ""
    said = ALPACA.format(paired=PAIRED if more else "")
    return f"{system}{said}\n\n### Instruction:\n{content['instruction']}{more}\n\n### Response:\n", content["output"]


def alpaca_turns(content: dict[str, str]) -> list[Turn]:
    """Instruction and input are the user's turn, one below the other."""
    asked = "\n".join(content[key] for key in ("instruction", "input") if key in content)
    system = [{"role": "system", "content": content["system"]}] if "system" in content else []
    return [*system, {"role": "user", "content": asked}, {"role": "assistant", "content": content["output"]}]


def _system(row: Row) -> list[Turn]:
    told = _text_if_any(row, "system")
    return [{"role": "system", "content": told}] if told else []


def _text_if_any(row: Row, name: str) -> str | None:
    """Of a column that may be empty, or not there. Raises DataError for what is no text: it would be lost."""
    told = row.values.get(name)
    if not isinstance(told, str | None):
        raise DataError(f"{row.where}: column {name!r} holds {type(told).__name__} {told!r:.60}, not text")
    return told if told and told.strip() else None


def _rounds(history: Any, where: Where) -> list[Turn]:
    turns: list[Turn] = []
    for number, pair in enumerate(history if isinstance(history, list) else [history]):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise DataError(f"{where}: history[{number}] must be a list of two texts: what was asked and answered")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns
