"""Rows of the tasks whose data is not text; see task_cases."""

from pathlib import Path

from examples.tasks import make_data
from trainer.tasks.task_cases import Answer, Case


def speech(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.wav2vec2(folder)


def spectrograms(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.ast(folder)


def recorded(seed: int, high: bool) -> str:
    import base64
    from io import BytesIO

    import soundfile

    content = BytesIO()
    soundfile.write(content, make_data.tone(high, seed), 16000, format="FLAC")
    return base64.b64encode(content.getvalue()).decode()


def tells_the_pitches(answer: Answer) -> None:
    assert answer["label"] == ["high", "low", "high"]
    assert answer["scores"][0] > 0.5


RECORDINGS = {"audio": [recorded(100, True), recorded(101, False), recorded(102, True)]}
AUDIO = {"maxLength": 600, "augmentation": {"audio": {"noise": {}, "shift": 0.2}}}


CASES = {
    "audio-classification-wav2vec2": Case(
        task="AudioClassification",
        model=speech,
        data=make_data.recordings,
        metric="accuracy",
        reaches=0.9,
        inputs=RECORDINGS,
        answered=tells_the_pitches,
        dataset=AUDIO,
    ),
    "audio-classification-ast": Case(
        task="AudioClassification",
        model=spectrograms,
        data=make_data.recordings,
        metric="accuracy",
        reaches=0.9,
        inputs=RECORDINGS,
        answered=tells_the_pitches,
        methods=("lora",),
        dataset=AUDIO,
        training={"learningRate": 3e-3, "maxSteps": 32},
    ),
}
