"""Recordings as a model's inputs, the same in training and serving: decoded, one channel, the model's sampling rate."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

SHORTEST = 0.25
"""Seconds to which silence is added: convolutions and masks of speech models need as much."""


BEYOND = 10
"""Milliseconds that are read of what is too long, so that it is seen to be."""


class UnreadableRecording(ValueError):
    """Not a recording, or one with nothing in it."""


def decode(content: bytes | Path, rate: int, longest: int | None = None) -> np.ndarray:
    """Samples of all channels' mean at `rate` per second, float32.

    Formats are libsndfile's: WAV, FLAC, Ogg, MP3, AIFF … Of a recording of more than `longest` milliseconds hardly more
    is read: hours of silence are a few kilobytes.

    Raises:
        UnreadableRecording: There is nothing to hear.
    """
    source = BytesIO(content) if isinstance(content, bytes) else content
    try:
        with soundfile.SoundFile(source) as file:
            found = file.samplerate
            frames = -1 if longest is None else found * (longest + BEYOND) // 1000 + 1
            samples = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, TypeError) as error:
        raise UnreadableRecording(f"is not a readable recording ({error})") from error
    if not len(samples):
        raise UnreadableRecording("is a recording of no length")
    if not np.isfinite(samples).all():
        raise UnreadableRecording("is a recording with samples that are no numbers")
    mono = samples.mean(axis=1)
    return mono if found == rate else np.asarray(soxr.resample(mono, found, rate, quality="HQ"), dtype=np.float32)


def features(samples: np.ndarray, extractor: Any) -> dict[str, np.ndarray]:
    """What the model is given for one recording, without padding: its scale does not depend on its neighbours."""
    rate = extractor.sampling_rate
    missing = round(SHORTEST * rate) - len(samples)
    if missing > 0:
        samples = np.pad(samples, (0, missing))
    found: Mapping[str, Any] = extractor([samples], sampling_rate=rate, return_tensors="np")
    return {name: values[0] for name, values in found.items()}


def milliseconds(samples: np.ndarray, rate: int) -> int:
    """Length, rounded up."""
    return -(-len(samples) * 1000 // rate)


def cut(samples: np.ndarray, length: int, rate: int) -> np.ndarray:
    """The first `length` milliseconds."""
    return samples[: length * rate // 1000]


def window(extractor: Any) -> int | None:
    """Milliseconds beyond which the extractor would cut a recording without a word; None where it takes any length.

    AST counts its window in frames, ten milliseconds apart; Whisper in samples.
    """
    if hasattr(extractor, "n_samples"):
        return int(extractor.n_samples * 1000 // extractor.sampling_rate)
    if hasattr(extractor, "num_mel_bins") and hasattr(extractor, "max_length"):
        return int(extractor.max_length * 10)
    return None
