"""Objects that nobody may, or need, watch, and that are looked for by their names."""

import re
from dataclasses import dataclass
from typing import Any

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
"""Of any object: what users write becomes part of a URL."""
MOST_SECRETS = 32
"""Of one job or deployment: each costs a request, again and again while it is not there. The kubelet tells the rest."""


@dataclass(frozen=True)
class Named:
    """In the namespace of the job that names it."""

    api_version: str
    kind: str
    name: str

    @property
    def possible(self) -> bool:
        """Whether an object can have this name."""
        return len(self.name) <= 253 and NAME.fullmatch(self.name) is not None


@dataclass(frozen=True)
class Question:
    """Whether an object is there."""

    about: Named
    fresh_seconds: float = 30.0
    """For how long it is taken to be there once it was."""
    kept: bool = False
    """It is ours, and made again when it is gone: asked again before long, and an absence is never remembered."""


def secret(name: str) -> Named:
    """A Secret, of which the operator sees the metadata alone."""
    return Named("v1", "Secret", name)


def named(body: dict[str, Any]) -> Named:
    """An object of a plan."""
    return Named(body["apiVersion"], body["kind"], body["metadata"]["name"])
