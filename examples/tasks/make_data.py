"""Makes data to try the examples of tasks with: `python examples/tasks/make_data.py recordings FOLDER`."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

Samples = np.ndarray


def tone(high: bool, seed: int, rate: int = 16_000, channels: int = 1) -> Samples:
    """A low or a high tone in noise, a third to half a second long; (samples, channels)."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(rate * generator.uniform(0.33, 0.5))) / rate
    wave = 0.5 * np.sin(2 * np.pi * (1800 if high else 300) * generator.uniform(0.8, 1.2) * time)
    hiss = 0.1 * generator.standard_normal(len(time))
    return np.stack([wave + hiss] * channels, axis=1)


def recordings(folder: Path, count: int = 60) -> Path:
    """Tones in the folders `high` and `low`: FLAC at 16 kHz, and WAV in two channels at 22.05 kHz."""
    for n in range(count):
        pitch = ["high", "low"][n % 2]
        (folder / pitch).mkdir(parents=True, exist_ok=True)
        rate, channels, ending = (16_000, 1, "flac") if n % 4 < 2 else (22_050, 2, "wav")
        soundfile.write(folder / pitch / f"{n}.{ending}", tone(pitch == "high", n, rate, channels), rate)
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {"recordings": recordings}


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(KINDS[arguments.kind](arguments.folder))


if __name__ == "__main__":
    main()
