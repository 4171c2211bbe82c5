"""Part of `dataset` that alters training examples."""

from pydantic import Field, model_validator

from finetune_api.base import Schema, rule, schema_with
from finetune_api.sources import Source

AUGMENTED: dict[str, tuple[str, ...]] = {
    "text": ("TextClassification",),
    "audio": ("AudioClassification",),
    "image": ("ImageClassification", "ObjectDetection"),
}
"""Tasks that a kind of augmentation is for."""


class Synonyms(Schema):
    """Words to put in place of others."""

    source: Source
    """A file with the columns `word` and `synonym`, one pair a row (.jsonl, .csv or .parquet)."""
    share: float = Field(0.1, gt=0, le=1, description="Share of a text's words to replace, where they have a synonym.")


class TextAugmentation(Schema):
    """Altered copies of the training texts (EDA, Wei and Zou 2019, arXiv:1901.11196); words are what spaces part."""

    copies: int = Field(1, ge=1, le=16, description="Of each training example, besides the example itself.")
    deletion: float = Field(0.0, ge=0, lt=1, description="Share of the words that are left out.")
    swap: float = Field(0.0, ge=0, le=1, description="Share of the words that change places with another.")
    synonyms: Synonyms | None = None
    """Words that are replaced."""
    seed: int = Field(0, ge=0)
    """The same seed gives the same copies."""

    @model_validator(mode="after")
    def something_changes(self) -> "TextAugmentation":
        if not (self.deletion or self.swap or self.synonyms):
            raise ValueError("the copies would equal their originals: set deletion, swap or synonyms")
        return self


class Noise(Schema):
    """White noise, at a signal-to-noise ratio drawn anew each time."""

    model_config = schema_with(
        x_kubernetes_validations=[rule("self.minSnr <= self.maxSnr", "minSnr must not be above maxSnr")]
    )
    min_snr: float = Field(10.0, ge=-20, le=100, description="Lowest signal-to-noise ratio, in decibels: most noise.")
    max_snr: float = Field(40.0, ge=-20, le=100, description="Highest signal-to-noise ratio, in decibels.")

    @model_validator(mode="after")
    def a_range(self) -> "Noise":
        if self.min_snr > self.max_snr:
            raise ValueError(f"minSnr ({self.min_snr:g}) must not be above maxSnr ({self.max_snr:g}); exchange them")
        return self


class AudioAugmentation(Schema):
    """What is drawn depends on training.seed, the epoch and the example alone, so a resumed run draws the same."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("has(self.noise) || self.shift > 0.0", "nothing would change: set noise or shift")
        ]
    )
    probability: float = Field(0.5, gt=0, le=1, description="Of each change, for each recording, each time it comes.")
    noise: Noise | None = None
    """Noise that is added."""
    shift: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Greatest share of its length by which a recording is moved, either way. What leaves at one end "
        "comes in at the other.",
    )

    @model_validator(mode="after")
    def something_changes(self) -> "AudioAugmentation":
        if self.noise is None and not self.shift:
            raise ValueError("nothing would change: set noise or shift")
        return self


IMAGE_CHANGES = ("horizontalFlip", "verticalFlip", "rotation", "crop", "brightness", "contrast", "saturation", "hue")
NOTHING_CHANGES = f"nothing would change: set one of {', '.join(IMAGE_CHANGES)}"


class ImageAugmentation(Schema):
    """What is drawn depends on training.seed, the epoch and the example alone, so a resumed run draws the same."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule(
                "self.horizontalFlip || self.verticalFlip || self.rotation > 0.0 || self.crop > 0.0 || "
                "self.brightness > 0.0 || self.contrast > 0.0 || self.saturation > 0.0 || self.hue > 0.0",
                NOTHING_CHANGES,
            )
        ]
    )
    probability: float = Field(0.5, gt=0, le=1, description="Of each change, for each image, each time it comes.")
    horizontal_flip: bool = False
    """Left and right change places."""
    vertical_flip: bool = False
    """Top and bottom change places."""
    rotation: float = Field(0.0, ge=0, le=180, description="Greatest angle, in degrees, either way; corners go black.")
    crop: float = Field(0.0, ge=0, lt=1, description="Greatest share of the area that is cut away at the edges.")
    brightness: float = Field(0.0, ge=0, le=1, description="Greatest share by which it goes up or down.")
    contrast: float = Field(0.0, ge=0, le=1, description="Greatest share by which it goes up or down.")
    saturation: float = Field(0.0, ge=0, le=1, description="Greatest share by which it goes up or down.")
    hue: float = Field(0.0, ge=0, le=0.5, description="Greatest share of the colour circle by which colours turn.")

    @model_validator(mode="after")
    def something_changes(self) -> "ImageAugmentation":
        changes = self.wire()
        if not any(changes[name] for name in IMAGE_CHANGES):
            raise ValueError(NOTHING_CHANGES)
        return self
