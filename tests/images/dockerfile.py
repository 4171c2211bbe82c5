"""Reads the Dockerfile: stages and their instructions. Enough for ours, not for every one."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


@dataclass
class Stage:
    """FROM `base` AS `name`, and what follows."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        return [text for word, text in self.instructions if word == keyword]

    def last(self, keyword: str) -> str | None:
        return next(reversed(self.all(keyword)), None)


def stages() -> dict[str, Stage]:
    """Stages by name, with the ARGs before the first FROM filled in."""
    found: dict[str, Stage] = {}
    defaults: dict[str, str] = {}
    current: Stage | None = None
    for keyword, text in _instructions(DOCKERFILE.read_text(encoding="utf-8")):
        if keyword == "FROM":
            base, _, name = text.partition(" AS ")
            base = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], base)
            current = found[name] = Stage(base, name)
        elif current is None:
            assert keyword == "ARG", f"{keyword} before FROM"
            name, _, value = text.partition("=")
            defaults[name] = value
        else:
            current.instructions.append((keyword, text))
    return found


def lineage(stage: Stage) -> list[Stage]:
    """The stage and what it is built on, itself first."""
    known = stages()
    return [stage, *(lineage(known[stage.base]) if stage.base in known else [])]


def inherited(stage: Stage, keyword: str) -> str | None:
    """The last instruction of that kind in the stage or in what it is built on."""
    return next((text for part in lineage(stage) if (text := part.last(keyword))), None)


def exec_form(text: str | None) -> list[str]:
    """The words of ENTRYPOINT and CMD, which must be JSON: a shell would swallow SIGTERM."""
    words = json.loads(text or "[]")
    assert isinstance(words, list)
    return words


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in joined.splitlines())]
