"""Recordings: decoded, counted, cut, altered in training alone, and refused with their place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from pydantic import ValidationError
from transformers import ASTFeatureExtractor, Wav2Vec2FeatureExtractor

from examples.tasks import make_data
from finetune_api.augmentation import AudioAugmentation
from finetune_api.dataset import Columns, Dataset
from finetune_serving.recordings import decode, features, window
from finetune_trainer.data.draws import generator_of
from finetune_trainer.data.encoded import encode
from finetune_trainer.data.encoding import LengthLimit, encode_part
from finetune_trainer.data.reading import read_rows
from finetune_trainer.data.recordings import altered_recording
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.audio_classification import AudioClassification
from trainer import tiny_models
from trainer.in_process import run
from trainer.jobs import job, write_jsonl

EXTRACTOR = Wav2Vec2FeatureExtractor(return_attention_mask=True)
AUGMENTATION = AudioAugmentation.model_validate({"probability": 1, "noise": {"minSnr": 10, "maxSnr": 20}, "shift": 0.5})
TASK = AudioClassification(Columns(), AUGMENTATION)


def wave(path: Path, seconds: float = 0.5, rate: int = 16_000, channels: int = 1, hertz: float = 400) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.stack([sound] * channels, axis=1), rate)
    return path


def examples(path: Path) -> list[Any]:
    return [TASK.read(row) for row in read_rows(path, "Auto", "train")]


def test_a_folder_is_a_class_and_lengths_are_in_milliseconds(tmp_path: Path) -> None:
    wave(tmp_path / "low" / "1.wav", 0.5)
    wave(tmp_path / "high" / "2.flac", 1.25, rate=44_100, channels=2)
    found = [(str(e.where), e.label, e.target.milliseconds) for e in examples(tmp_path)]
    place = f"train: {tmp_path.name}"
    assert found == [(f"{place}/high/2.flac", "high", 1250), (f"{place}/low/1.wav", "low", 500)]


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2)])
def test_every_rate_and_number_of_channels_becomes_the_models(tmp_path: Path, rate: int, channels: int) -> None:
    samples = decode(wave(tmp_path / "tone.wav", 0.5, rate, channels, hertz=440), 16_000)
    assert samples.shape == (8_000,)
    assert np.abs(np.fft.rfft(samples)).argmax() == 220, "half a second of 440 Hz"


def test_what_cannot_be_heard_is_named(tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(b"RIFF and nothing else")
    wave(tmp_path / "empty.wav", 0)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan, np.float32), 16_000, subtype="FLOAT")
    for name, says in [("noise", "not a readable recording"), ("empty", "no length"), ("nan", "no numbers")]:
        rows = write_jsonl(tmp_path / "train.jsonl", [{"audio": f"{name}.wav", "label": "low"}])
        with pytest.raises(DataError, match=rf"train\.jsonl line 1: {name}\.wav is .*{says}.*replace or remove it"):
            examples(rows)


def test_a_long_recording_is_refused_or_cut_and_counted(tmp_path: Path) -> None:
    wave(tmp_path / "low" / "1.wav", 1.0)
    wave(tmp_path / "low" / "2.wav", 0.5)
    found = examples(tmp_path)
    with pytest.raises(DataError, match=r"1000 milliseconds, but dataset\.maxLength is 600"):
        encode_part("train", found, TASK, EXTRACTOR, LengthLimit(600, "Error"), ["low"], tmp_path)
    encoded, losses = encode_part("train", found, TASK, EXTRACTOR, LengthLimit(600, "Truncate"), ["low"], tmp_path)
    assert losses.report()["truncated"] == {"examples": 1, "tokens": 400, "targets": 0}
    batch = TASK.collator(EXTRACTOR)(encoded, [[0], [1]])
    assert batch.inputs["input_values"].shape == (2, 9_600)
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == [9_600, 8_000]


def test_recordings_are_by_default_at_most_30_seconds_long() -> None:
    dataset = Dataset.model_validate({"train": {"source": "file:///d"}})
    assert (dataset.longest("AudioClassification"), dataset.longest("TextClassification")) == (30_000, 512)


def test_extractors_that_would_cut_in_silence_say_where() -> None:
    assert window(ASTFeatureExtractor(max_length=64)) == 640
    assert window(EXTRACTOR) is None


def test_a_recordings_scale_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    """transformers would normalise the shorter one together with its padding."""
    wave(tmp_path / "low" / "1.wav", 0.3)
    wave(tmp_path / "low" / "2.wav", 1.0)
    encoded = encode(TASK.encode(examples(tmp_path), EXTRACTOR, ["low"]))
    collate = TASK.collator(EXTRACTOR)
    alone, together = collate(encoded, [[0]]).inputs, collate(encoded, [[0], [1]]).inputs
    assert torch.equal(together["input_values"][0, :4_800], alone["input_values"][0])
    assert not together["input_values"][0, 4_800:].any()


def test_a_very_short_recording_is_followed_by_silence() -> None:
    assert features(np.ones(10, np.float32), EXTRACTOR)["input_values"].shape == (4_000,)


def test_only_training_alters_recordings_and_every_epoch_otherwise(tmp_path: Path) -> None:
    wave(tmp_path / "low" / "1.wav")
    encoded = encode(TASK.encode(examples(tmp_path), EXTRACTOR, ["low"]))
    plain, altering = TASK.collator(EXTRACTOR), TASK.altering_collator(EXTRACTOR)
    assert altering is not None

    def altered(epoch: int, row: int) -> torch.Tensor:
        return altering(encoded, [[0]], [generator_of(7, epoch, row)]).inputs["input_values"]

    assert torch.equal(altered(0, 3), altered(0, 3)), "a resumed run hears the same"
    seen = [altered(0, 3), altered(1, 3), altered(0, 4), plain(encoded, [[0]]).inputs["input_values"]]
    assert not any(torch.equal(one, other) for n, one in enumerate(seen) for other in seen[:n])
    assert AudioClassification(Columns()).altering_collator(EXTRACTOR) is None


def test_noise_has_the_ratio_asked_for_and_shifting_loses_nothing() -> None:
    samples = make_data.tone(True, 1)[:, 0].astype(np.float32)
    noise_only = AUGMENTATION.model_copy(update={"shift": 0.0})
    shift_only = AUGMENTATION.model_copy(update={"noise": None})
    for epoch in range(20):
        added = altered_recording(samples, noise_only, generator_of(0, epoch, 0)) - samples
        ratio = 10 * np.log10(np.square(samples).mean() / np.square(added).mean())
        assert 9.5 < ratio < 20.5
        moved = altered_recording(samples, shift_only, generator_of(0, epoch, 0))
        assert np.array_equal(np.sort(moved), np.sort(samples))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "nothing would change"),
        ({"noise": {"minSnr": 20, "maxSnr": 10}}, r"minSnr \(20\) must not be above maxSnr \(10\)"),
    ],
)
def test_useless_settings_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        AudioAugmentation.model_validate(settings)


def test_augmentation_is_for_its_task() -> None:
    dataset = Dataset.model_validate({"train": {"source": "file:///d"}, "augmentation": {"audio": {"shift": 0.1}}})
    [problem] = dataset.problems_with("ImageClassification")
    assert problem == "dataset.augmentation.audio is for AudioClassification, not ImageClassification; remove it"
    assert not dataset.problems_with("AudioClassification")


def test_speech_is_learnt_on_a_base_of_four_bits(tmp_path: Path) -> None:
    """SpecAugment writes into the output of the first layer, and the head's own first layer is new."""
    model, data = tiny_models.wav2vec2(tmp_path / "model"), make_data.recordings(tmp_path / "data")
    settings = {"method": {"qlora": {"rank": 4}}, "dataset": {"maxLength": 600}, "maxSteps": 2}
    result, losses = run(job(tmp_path, model, data, task="AudioClassification", **settings), tmp_path)
    assert result.format == "Adapter"
    assert losses[1] != losses[2]
