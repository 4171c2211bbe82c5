"""Texts of requests that can be written as bytes."""

from typing import Annotated

from pydantic import AfterValidator


def whole_text(text: str) -> str:
    """The text. JSON can name half of a surrogate pair, which is no character, and which no tokenizer takes.

    Raises:
        ValueError: It has such a half.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} is half of a surrogate pair ({text[error.start]!a}); send whole characters"
        ) from error
    return text


WholeText = Annotated[str, AfterValidator(whole_text)]
"""Of a request's body."""
