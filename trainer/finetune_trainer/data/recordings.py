"""Recordings that rows name: listened to once, where the row is known, and read again for each batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from finetune_api.augmentation import AudioAugmentation, Noise
from finetune_serving.recordings import UnreadableRecording, decode, milliseconds
from finetune_trainer.data.examples import BadFileError
from finetune_trainer.data.row import Row

COUNTED_AT = 16_000
"""Samples a second at which lengths are counted, whatever the file has."""


@dataclass(frozen=True)
class Recording:
    """A file that can be read."""

    path: str
    milliseconds: int


def checked_recording(path: Path, row: Row) -> tuple[str, Recording]:
    """sha256 of a readable recording, equal for copies under other names, and its length.

    Raises:
        BadFileError: It cannot be read; names the row.
    """
    content = path.read_bytes()
    try:
        samples = decode(content, COUNTED_AT)
    except UnreadableRecording as error:
        raise BadFileError(
            f"{row.where}: {path.name} {error}; replace or remove it, or set dataset.cleaning.badFiles to Drop"
        ) from None
    return hashlib.sha256(content).hexdigest(), Recording(str(path), milliseconds(samples, COUNTED_AT))


def altered_recording(samples: np.ndarray, settings: AudioAugmentation, draws: np.random.Generator) -> np.ndarray:
    """Moved, and with noise; as many numbers are drawn whatever is done."""
    moves, hisses = draws.random(2) < settings.probability
    distance, loudness = draws.random(2)
    if settings.shift and moves:
        samples = np.roll(samples, round((2 * distance - 1) * settings.shift * len(samples)))
    if settings.noise and hisses:
        samples = samples + _noise(samples, settings.noise, loudness, draws)
    return samples


def _noise(samples: np.ndarray, noise: Noise, loudness: float, draws: np.random.Generator) -> np.ndarray:
    ratio = noise.min_snr + loudness * (noise.max_snr - noise.min_snr)
    power = float(np.square(samples, dtype=np.float64).mean())
    deviation = (power / 10 ** (ratio / 10)) ** 0.5
    return (deviation * draws.standard_normal(len(samples))).astype(np.float32)


def padded_features(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """Features of several recordings as one batch, with zeros behind the shorter ones; a mask is 0 there."""
    return {name: _padded([row[name] for row in rows]) for name in rows[0]}


def _padded(arrays: list[np.ndarray]) -> Tensor:
    batch = np.zeros((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    for number, array in enumerate(arrays):
        batch[number, : len(array)] = array
    return torch.from_numpy(batch)
