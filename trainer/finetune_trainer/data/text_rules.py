"""What makes a text unfit to learn from, in any language."""

import re
import unicodedata

from finetune_api.data_preparation import Cleaning

WORDS_TOGETHER = 5
CHARACTERS_TOGETHER = 10
"""Of what is written without spaces: about as much as five words."""
SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese."""
SPACELESS_CHARACTER = re.compile(f"[{SPACELESS}]")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff]")
SPACES = re.compile(r"[^\S\n]+")


def normalised(text: str, cleaning: Cleaning) -> str:
    """In the asked for form."""
    if cleaning.unicode != "Keep":
        text = unicodedata.normalize(cleaning.unicode, text)
    if cleaning.whitespace == "Collapse":
        text = SPACES.sub(" ", CONTROL.sub("", text.replace("\r\n", "\n"))).strip()
    return text


def broken_rule(text: str, cleaning: Cleaning) -> str | None:
    """The rule that the text breaks."""
    if cleaning.min_characters and len(text) < cleaning.min_characters:
        return "tooShort"
    if cleaning.max_characters and len(text) > cleaning.max_characters:
        return "tooLong"
    if cleaning.min_letter_share and letter_share(text) < cleaning.min_letter_share:
        return "fewLetters"
    if cleaning.max_repetition and repetition(text) > cleaning.max_repetition:
        return "repetitive"
    return None


def letter_share(text: str) -> float:
    """Letters and their marks, of any alphabet, among the characters that are no spaces."""
    characters = [c for c in text if not c.isspace()]
    letters = sum(unicodedata.category(c)[0] in "LM" for c in characters)
    return letters / max(1, len(characters))


def repetition(text: str) -> float:
    """Share of the words that stand in a run of five words seen before (after Rae et al. 2021, arXiv:2112.11446).

    Of a text in a script without spaces, the share of its characters in a run of ten.
    """
    words, together = text.split(), WORDS_TOGETHER
    if 2 * len(SPACELESS_CHARACTER.findall(text)) > sum(map(len, words)):
        words, together = list("".join(words)), CHARACTERS_TOGETHER
    seen: set[tuple[str, ...]] = set()
    repeated: set[int] = set()
    for start in range(len(words) - together + 1):
        run = tuple(words[start : start + together])
        if run in seen:
            repeated.update(range(start, start + together))
        seen.add(run)
    return len(repeated) / max(1, len(words))
