"""Parts of `dataset` that change what is learnt from: cleaning and sampling."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from finetune_api.augmentation import AUGMENTED
from finetune_api.base import Schema, rule, schema_with

WITHOUT_TEXT = frozenset({"ImageClassification", "ObjectDetection", "AudioClassification", "Recommendation"})
WITH_FILES = frozenset({"ImageClassification", "ObjectDetection", "AudioClassification"})
"""Tasks whose rows name images or recordings."""
WITH_SPANS = frozenset({"TokenClassification", "QuestionAnswering"})
"""Tasks whose data points into its texts: changed texts would move what it points to."""
WITH_CLASSES = frozenset({"TextClassification", "ImageClassification", "AudioClassification"})
"""Tasks with one class an example."""

OF_EVERY_DATA = frozenset({"duplicates", "badFiles", "badBoxes"})
"""Fields of `cleaning` that need no texts."""

Pattern = Annotated[str, Field(min_length=1, max_length=512)]


class NearDuplicates(Schema):
    """Texts that share most of their character n-grams, found by MinHash (Broder 1997)."""

    threshold: float = Field(
        0.85, ge=0.5, lt=1, description="Share of common n-grams (Jaccard) from which two texts count as one."
    )
    ngram: int = Field(5, ge=2, le=32, description="Characters of an n-gram.")


class Redaction(Schema):
    """Personal data is replaced by its kind in brackets, such as [Email]."""

    kinds: list[Literal["Email", "Phone", "CreditCard", "IpAddress", "Iban"]] = Field(
        default_factory=list,
        max_length=8,
        description="Built-in patterns; card numbers and IBANs count only with a right check sum.",
    )
    patterns: dict[str, Pattern] = Field(
        default_factory=dict,
        max_length=32,
        description="Further regular expressions (Python's) by the name that stands in for what they match.",
    )

    @field_validator("patterns")
    @classmethod
    def patterns_are_regular_expressions(cls, patterns: dict[str, str]) -> dict[str, str]:
        for name, pattern in patterns.items():
            try:
                matches_nothing = re.compile(pattern).match("")
            except re.error as error:
                raise ValueError(f"{name} ({pattern}) is no regular expression: {error}") from None
            if matches_nothing:
                raise ValueError(f"{name} ({pattern}) matches the empty text, so it would stand everywhere")
        return patterns


class Cleaning(Schema):
    """What is mended in the texts, and which examples are left out. Every one is counted in the data report."""

    unicode: Literal["Keep", "NFC", "NFKC"] = Field(
        "Keep", description="Unicode normal form. NFKC also makes one of full-width, ligature and styled letters."
    )
    whitespace: Literal["Keep", "Collapse"] = Field(
        "Keep", description="Collapse: control characters go, and runs of spaces become one; line breaks stay."
    )
    redact: Redaction | None = None
    """Personal data to take out of the texts."""
    empty: Literal["Error", "Drop"] = Field("Error", description="What to do with a row whose text is empty.")
    bad_files: Literal["Error", "Drop"] = Field(
        "Error", description="What to do with a row whose image or recording is missing or cannot be read."
    )
    bad_boxes: Literal["Error", "Drop", "Clip"] = Field(
        "Error",
        description="ObjectDetection: what to do with a box that leaves its image or has no area. Clip cuts it at the "
        "edges of the image, and drops it where nothing is left.",
    )
    min_characters: int | None = Field(None, ge=1, description="Shorter texts are left out.")
    max_characters: int | None = Field(None, ge=1, description="Longer texts are left out.")
    min_letter_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Least share of letters, of any alphabet, among what is no space.",
    )
    max_repetition: float | None = Field(
        None, gt=0, lt=1, description="Greatest share of words that stand in an n-gram of five words seen before."
    )
    duplicates: Literal["Keep", "Drop"] = Field("Keep", description="Drop: the first of equal inputs stays.")
    near_duplicates: NearDuplicates | None = Field(
        None, description="Left out like equal ones, also from train when their like is held out."
    )

    @model_validator(mode="after")
    def a_length_is_left(self) -> "Cleaning":
        if self.min_characters and self.max_characters and self.min_characters > self.max_characters:
            raise ValueError(
                f"minCharacters ({self.min_characters}) is above maxCharacters ({self.max_characters}): nothing is left"
            )
        return self

    @property
    def edits(self) -> bool:
        """Whether texts change."""
        return self.unicode != "Keep" or self.whitespace != "Keep" or self.redact is not None

    @property
    def reads_texts(self) -> bool:
        """Whether it asks for anything but equal inputs."""
        asked, defaults = self.wire(), Cleaning().wire()
        return any(asked.get(name) != defaults.get(name) for name in asked.keys() - OF_EVERY_DATA)


class Sampling(Schema):
    """What to do about classes of different size."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("!has(self.weights) || self.balance == 'None'", "give balance or weights, not both"),
        ]
    )
    balance: Literal["None", "Weights", "Oversample", "Undersample"] = Field(
        "None",
        description="Weights: rare classes count more in the loss. Oversample: their examples come again until all "
        "classes are as large as the largest. Undersample: of each class, as many as the smallest has.",
    )
    weights: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, min_length=1, max_length=1024, description="Weight of each class in the loss; those not named have 1."
    )

    @model_validator(mode="after")
    def one_way(self) -> "Sampling":
        if self.weights and self.balance != "None":
            raise ValueError("balance and weights are both set; keep one of them")
        return self


def preparation_problems(
    task: str, cleaning: Cleaning | None, augmented: Iterable[str], sampling: Sampling | None
) -> list[str]:
    """What of it does not go with the task, and the mend; `augmented` are the kinds of augmentation."""
    problems = []
    if cleaning and cleaning.edits and task in WITH_SPANS:
        problems.append(
            f"dataset.cleaning: unicode, whitespace and redact change texts, and {task} data points into them; "
            "clean the texts before they are annotated"
        )
    if cleaning and cleaning.reads_texts and task in WITHOUT_TEXT:
        problems.append(f"dataset.cleaning: {task} data has no texts; keep only duplicates, badFiles and badBoxes")
    if cleaning and cleaning.bad_files != "Error" and task not in WITH_FILES:
        problems.append(f"dataset.cleaning.badFiles: {task} data names no files; remove it")
    if cleaning and cleaning.bad_boxes != "Error" and task != "ObjectDetection":
        problems.append(f"dataset.cleaning.badBoxes is for ObjectDetection, not {task}; remove it")
    for kind in augmented:
        if task not in AUGMENTED[kind]:
            problems.append(
                f"dataset.augmentation.{kind} is for {' and '.join(AUGMENTED[kind])}, not {task}; remove it"
            )
    if sampling and (sampling.weights or sampling.balance != "None") and task not in WITH_CLASSES:
        problems.append(f"dataset.sampling is for tasks with one class an example, not {task}; remove it")
    return problems
