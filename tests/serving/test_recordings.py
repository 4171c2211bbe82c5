"""Recordings in requests: alone or beside others, too long, and no recordings at all."""

import base64
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from transformers import Wav2Vec2ForSequenceClassification

from examples.tasks import make_data
from finetune_api.artifact import ArtifactDescription
from finetune_serving.recordings import decode, milliseconds
from serving.artifacts import finish
from serving.in_process import Serving, serving
from trainer.tiny_models import wav2vec2


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    folder = wav2vec2(tmp_path / "model")
    Wav2Vec2ForSequenceClassification.from_pretrained(folder, num_labels=2).save_pretrained(folder)
    finish(folder, ArtifactDescription(task="AudioClassification", labels=["high", "low"], max_length=450))
    async with serving(folder, name="tones", version="tones-1") as running:
        yield running


def recording(seed: int) -> str:
    content = BytesIO()
    soundfile.write(content, make_data.tone(True, seed), 16_000, format="WAV")
    return base64.b64encode(content.getvalue()).decode()


async def infer(server: Serving, recordings: list[str], **parameters: Any) -> Any:
    tensor = {"name": "audio", "datatype": "BYTES", "shape": [len(recordings)], "data": recordings}
    return await server.client.post("/v2/models/tones/infer", json={"inputs": [tensor], "parameters": parameters})


async def test_answers_do_not_depend_on_the_neighbours(server: Serving) -> None:
    clips = [recording(seed) for seed in (5, 6, 5)]
    together = (await infer(server, clips, truncate=True)).json()["outputs"][1]["data"]
    alone = [(await infer(server, [clip], truncate=True)).json()["outputs"][1]["data"] for clip in clips]
    assert together == pytest.approx([score for scores in alone for score in scores], abs=1e-6)
    assert together[:2] != pytest.approx(together[2:4], abs=1e-6), "of different length, so not in one pass"


async def test_a_long_recording_is_cut_only_on_request(server: Serving) -> None:
    lengths = {seed: len(make_data.tone(True, seed)) / 16 for seed in range(20)}
    long = recording(max(lengths, key=lambda seed: lengths[seed]))
    refused = (await infer(server, [long])).json()
    assert (refused["code"], refused["field"]) == ("input_too_long", "inputs[0].data[0]")
    assert "milliseconds or more, the model takes 450; shorten it" in refused["error"]
    assert (await infer(server, [long], truncate=True)).status_code == 200


@pytest.mark.parametrize(("rate", "seconds"), [(16_000, 600), (1, 600), (44_100, 10)])
def test_of_what_is_too_long_hardly_more_is_read_than_the_model_takes(rate: int, seconds: int) -> None:
    """An hour of silence has a few kilobytes, and a second of a hertz becomes 16,000 samples."""
    silence = BytesIO()
    soundfile.write(silence, np.zeros(rate * seconds, dtype=np.int16), rate, format="WAV")
    samples = decode(silence.getvalue(), 16_000, longest=450)
    assert 450 < milliseconds(samples, 16_000) <= 1_000
    assert milliseconds(decode(silence.getvalue(), 16_000), 16_000) == seconds * 1000


@pytest.mark.parametrize(
    ("data", "says"),
    [("%%%", "is not base64"), (base64.b64encode(b"no sound").decode(), "is not a readable recording")],
)
async def test_what_is_no_recording_is_named(server: Serving, data: str, says: str) -> None:
    response = await infer(server, [recording(1), data])
    assert response.status_code == 400
    assert response.json()["field"] == "inputs[0].data[1]"
    assert says in response.json()["error"]
