"""Turns of a chat in the forms in which they are published, made what chat templates take."""

from typing import Any

import orjson

from finetune_trainer.data.row import Row, Where
from finetune_trainer.errors import DataError

Turn = dict[str, Any]

CALLS = "function_call"
"""ShareGPT's name of the assistant where it calls a tool; its value is the call in JSON."""
SPEAKERS = {
    **dict.fromkeys(["human", "user"], "user"),
    **dict.fromkeys(["gpt", "assistant", "chatgpt", "bing", "bard", "model", CALLS], "assistant"),
    "system": "system",
    **dict.fromkeys(["tool", "observation", "function_response"], "tool"),
}
"""Roles of chat templates by the names that ShareGPT files give them."""
WEIGHT = "weight"
"""Of an answer: 0 where it is read and not learnt, as OpenAI has it."""
TRAIN = ("train", "training")
"""The same as a boolean, as Axolotl's data has it."""
FLAGS = (WEIGHT, *TRAIN)
TOOLS = "tools"
"""The column of what the assistant may call, as OpenAI, TRL and LLaMA-Factory name it."""


def has_speakers(turns: Any) -> bool:
    """Whether these are turns in ShareGPT's form."""
    first = turns[0] if isinstance(turns, list) and turns else None
    return isinstance(first, dict) and "from" in first and "role" not in first


def turns_of(value: Any, where: Where, name: str) -> list[Turn]:
    """One turn or several, in either form, as `{role, content}`.

    Raises:
        DataError: Names the turn and what is wrong.
    """
    turns = [value] if isinstance(value, dict) else value
    return turns_in(roles_of(turns, where, name) if has_speakers(turns) else turns, where, name)


def roles_of(value: Any, where: Where, name: str) -> list[Turn]:
    """ShareGPT's turns, `{from, value}`, as `{role, content}`. Raises DataError likewise."""
    if not isinstance(value, list):
        raise DataError(f"{where}: column {name!r} must be a list of {{from, value}} turns")
    turns = []
    for number, turn in enumerate(value):
        speaker = turn.get("from") if isinstance(turn, dict) else None
        speaks_as = speaker.lower() if isinstance(speaker, str) else ""
        if (role := SPEAKERS.get(speaks_as)) is None:
            raise DataError(
                f"{where}: {name}[{number}].from is {speaker!r}; it must be one of {', '.join(SPEAKERS)}. Turns of "
                "{role, content} are the layout Messages"
            )
        said = turn.get("value")
        if not isinstance(said, str):
            raise DataError(f"{where}: {name}[{number}].value must be text")
        calls = speaks_as == CALLS
        spoken = _calling(said, f"{where}: {name}[{number}]") if calls else {"role": role, "content": said}
        turns.append({**spoken, **{flag: turn[flag] for flag in FLAGS if flag in turn}})
    return turns


def _calling(said: str, place: str) -> Turn:
    calls = _parsed(said, f"{place}.value")
    return {"role": "assistant", "content": "", "tool_calls": calls if isinstance(calls, list) else [calls]}


def check_turns(value: Any, where: Where, name: str) -> list[Turn]:
    """Turns with role and content, one of them the assistant's.

    Raises:
        DataError: Names the row, the turn and what is wrong.
    """
    turns = turns_in(value, where, name)
    if not any(turn["role"] == "assistant" for turn in turns):
        raise DataError(f"{where}: {name} has no assistant turn, so there is nothing to learn")
    return turns


def turns_in(value: Any, where: Where, name: str) -> list[Turn]:
    """Turns with role and content, whoever speaks. Raises DataError likewise."""
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: column {name!r} must be a list of {{role, content}} turns")
    return [_turn(turn, f"{where}: {name}[{number}]") for number, turn in enumerate(value)]


def _turn(turn: Any, place: str) -> Turn:
    if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
        raise DataError(f"{place} has no role; a turn is {{role, content}}")
    # Parquet gives every turn every key that any turn has, and templates ask whether a key is there.
    kept = {key: value for key, value in turn.items() if value is not None or key == "content"}
    if isinstance(kept.get("content"), list):
        kept["content"] = "".join(_text_part(p, f"{place}.content[{n}]") for n, p in enumerate(kept["content"]))
    if kept.get("tool_calls"):
        kept["tool_calls"] = [_call(call, f"{place}.tool_calls[{n}]") for n, call in enumerate(kept["tool_calls"])]
    elif not isinstance(kept.get("content"), str):
        raise DataError(f"{place}.content must be text")
    return _weighted(kept, place)


def _weighted(turn: Turn, place: str) -> Turn:
    """With its weight where that is 0, and without the flags that say the same: templates may print what they know."""
    weight = turn.get(WEIGHT, 1)
    if weight not in (0, 1):
        raise DataError(f"{place}.weight is {weight!r}; it must be 0 or 1")
    learnt = bool(weight)
    for flag in TRAIN:
        if (wanted := turn.get(flag)) is None:
            continue
        if not isinstance(wanted, bool):
            raise DataError(f"{place}.{flag} is {wanted!r}; it must be true or false")
        if wanted and turn["role"] != "assistant":
            raise DataError(f"{place}.{flag} is true, but only what the assistant says can be learnt; remove it")
        learnt = learnt and wanted
    kept = {key: value for key, value in turn.items() if key not in FLAGS}
    return kept if learnt or turn["role"] != "assistant" else {**kept, WEIGHT: 0}


def is_learnt(turn: Turn) -> bool:
    """Whether it is an answer that carries loss."""
    return turn["role"] == "assistant" and bool(turn.get(WEIGHT, 1))


def with_last_answer_learnt(content: Any) -> Any:
    """Turns, or `{"turns", "tools"}`, with no other answer learnt than the last; anything else as it is."""
    if isinstance(content, dict):
        return {**content, "turns": with_last_answer_learnt(content["turns"])}
    if not isinstance(content, list):
        return content
    last = max(place for place, turn in enumerate(content) if turn["role"] == "assistant")
    return [
        {**turn, WEIGHT: 0} if turn["role"] == "assistant" and place != last else turn
        for place, turn in enumerate(content)
    ]


def _text_part(part: Any, place: str) -> str:
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        kind = part.get("type") if isinstance(part, dict) else part
        raise DataError(f"{place} is {kind!r}; only text can be learnt")
    return str(part["text"])


def _call(call: Any, place: str) -> dict[str, Any]:
    """Arguments as an object: OpenAI gives them as JSON in a text, which templates would quote once more."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError(f"{place} has no name; a call is {{name, arguments}}, or {{function: {{name, arguments}}}}")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _parsed(arguments, f"{place}.arguments")
    identity = {key: call[key] for key in ("id",) if call.get(key) is not None}
    return {**identity, "type": "function", "function": {"name": function["name"], "arguments": arguments or {}}}


def tools_of(row: Row) -> list[dict[str, Any]]:
    """What the assistant of this row may call, as templates want it.

    Raises:
        DataError: Names the row and what is wrong.
    """
    place, tools = f"{row.where}: {TOOLS}", row.values.get(TOOLS)
    if isinstance(tools, str) and tools.strip():
        tools = _parsed(tools, place)
    if not tools:
        return []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(f"{place} must be a list of {{name, description, parameters}}, or the same in JSON")
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]


def _parsed(text: str, place: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{place} is not valid JSON ({error})") from None
