"""Forms of text fields: a pattern for the CRD, and words that say the mend for people."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field


def text_form(pattern: str, mend: str, max_length: int, description: str | None = None) -> Any:
    """A type of text that must match a pattern (RE2 syntax, anchored). An error says the mend, not the pattern."""
    expression = re.compile(pattern)

    def check(text: str) -> str:
        if not expression.search(text):
            raise ValueError(mend)
        return text

    extra: dict[str, Any] = {"pattern": pattern}
    return Annotated[
        str, Field(max_length=max_length, description=description, json_schema_extra=extra), AfterValidator(check)
    ]


def label_name(max_length: int) -> Any:
    """A DNS label (RFC 1123), as names of Services are."""
    return text_form(
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "use lower-case letters, digits and '-', with a letter or digit at both ends",
        max_length,
    )


ModelName = label_name(63)
DeploymentName = label_name(52)
"""Room is left for the suffixes of its objects."""
