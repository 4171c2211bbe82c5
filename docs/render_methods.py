"""Writes docs/methods.md from the support table and the API's own descriptions (`make docs`)."""

from pathlib import Path
from typing import Any

from finetune_api.engine_support import UNSHARDABLE
from finetune_api.method import Method
from finetune_api.method_support import FEATURES, SUPPORT, Feature, Support, refusal

PAGE = Path(__file__).parent / "methods.md"
SHARDING = ("", "a whole copy in each process (DDP)", "FSDP2", "DeepSpeed ZeRO")
HEADER = """<!-- Written by `make docs` from method.py, method_support.py and engine_support.py in api/: edit those. -->
# Methods

`spec.method` says how the weights change. Exactly one of these is set. What does not go together is refused when the
job is applied, or, where it depends on the model, before the data is read.
"""


def rendered() -> str:
    """The whole page."""
    return "\n".join([HEADER, *table(), "", *reasons(), *engines(), *fields()])


def table() -> list[str]:
    """One row a method."""
    heads = ["method", "what is trained", "learning rate to begin with", "served", *FEATURES]
    lines = [_row(heads), _row(["---"] * len(heads))]
    return [*lines, *(_row(_cells(name, row)) for name, row in SUPPORT.items())]


def _cells(name: str, row: Support) -> list[str]:
    support = ["no" if feature in row.refused else "yes" for feature in FEATURES]
    return [f"`{name}`", row.trains, row.learning_rate, row.served.lower(), *support]


def reasons() -> list[str]:
    """Why there is a `no`."""
    refused: list[tuple[str, Feature]] = [(name, feature) for name, row in SUPPORT.items() for feature in row.refused]
    return [
        "Merged: the server adds the adapter to its base model once, so it costs nothing more to run. Beside its "
        "base: it is computed with every text; for qlora on a base model in the bits that it was trained on.",
        "",
        *(f"- {refusal(name, feature)}." for name, feature in refused),
        "",
    ]


def engines() -> list[str]:
    """What goes with shards."""
    heads = [*SHARDING, "why not"]
    rows = [_row([one.feature, "yes", "no", "no", one.refusal]) for one in UNSHARDABLE]
    return [
        "## Engines",
        "",
        "Whatever the method, besides what the table above says of it:",
        "",
        _row(heads),
        _row(["---"] * len(heads)),
        *rows,
        "",
    ]


def fields() -> list[str]:
    """The fields of each method, from the schema of the CRD."""
    schema = Method.model_json_schema(by_alias=True)
    lines = []
    for name in SUPPORT:
        definition = _definition(schema, name)
        lines += [f"## {name}", "", definition["description"], ""]
        properties = definition.get("properties", {})
        if properties:
            lines += [_row(["field", "default", "meaning"]), _row(["---"] * 3)]
            lines += [_row([f"`{key}`", _default(part), part["description"]]) for key, part in properties.items()]
            lines.append("")
    return lines


def _definition(schema: dict[str, Any], name: str) -> dict[str, Any]:
    reference = schema["properties"][name]["anyOf"][0]["$ref"]
    definition: dict[str, Any] = schema["$defs"][reference.rsplit("/", 1)[1]]
    return definition


def _default(part: dict[str, Any]) -> str:
    value = part.get("default")
    return "" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(rendered(), encoding="utf-8")
