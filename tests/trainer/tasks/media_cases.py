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


def patches_and_queries(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.yolos(folder)


def convolutions_and_queries(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.detr(folder)


def drawn(seed: int) -> str:
    import base64
    from io import BytesIO

    content = BytesIO()
    make_data.scene(seed)[0].save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


SCENES = {"image": [drawn(seed) for seed in range(1000, 1008)]}


def finds_the_rectangles(answer: Answer) -> None:
    """In pixels of images of any proportions that it has not seen."""
    import json

    right = 0
    for seed, row in zip(range(1000, 1008), answer["objects"], strict=True):
        best = json.loads(row)[0]
        assert 0 < best["score"] <= 1
        right += any(
            best["label"] == name and overlap(best["box"], box) > 0.3 for name, box in make_data.scene(seed)[1]
        )
    assert right >= 3, f"{right} of 8"


def overlap(one: list[float], other: list[int]) -> float:
    """Intersection over union of x, y, width and height."""
    common = 1.0
    for side in (0, 1):
        common *= max(0, min(one[side] + one[side + 2], other[side] + other[side + 2]) - max(one[side], other[side]))
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def nothing(folder: Path) -> Path:
    """The model is made from the data."""
    return folder


USERS = {"user": [f"user-{n}" for n in range(6)]}


def recommends_what_is_liked(answer: Answer) -> None:
    import json

    liked = 0
    for user, row in enumerate(answer["items"]):
        best = [recommended["item"] for recommended in json.loads(row)]
        assert len(best) == 10
        liked += sum(int(item.removeprefix("item-")) % 2 == user % 2 for item in best)
    assert liked >= 36, "of 60; by chance it would be 19, and 48 are new to the users"


CASES = {
    "recommendation-ratings": Case(
        task="Recommendation",
        model=nothing,
        data=make_data.tastes,
        metric="rmse",
        reaches=0.45,
        inputs=USERS,
        answered=recommends_what_is_liked,
        architecture={"matrixFactorization": {"factors": 8}},
        dataset={"split": {"leaveOneOut": True}, "columns": {"rating": "rating"}},
        training={"maxSteps": 64, "batchSize": 64, "microBatchSize": 32, "learningRate": 5e-2},
    ),
    "recommendation-uses": Case(
        task="Recommendation",
        model=nothing,
        data=make_data.tastes,
        metric="hitRate10",
        reaches=0.65,
        inputs=USERS,
        answered=recommends_what_is_liked,
        architecture={"neuralCollaborativeFiltering": {"factors": 8, "layers": [16, 8]}},
        dataset={"split": {"leaveOneOut": True}},
        training={"maxSteps": 72, "batchSize": 64, "microBatchSize": 32, "learningRate": 5e-2, "weightDecay": 0.3},
    ),
    "object-detection-yolos": Case(
        task="ObjectDetection",
        model=patches_and_queries,
        data=make_data.scenes,
        metric="mAP50",
        reaches=0.1,
        inputs=SCENES,
        answered=finds_the_rectangles,
        dataset={"augmentation": {"image": {"horizontalFlip": True, "verticalFlip": True}}},
        training={"maxSteps": 40, "batchSize": 16, "microBatchSize": 8, "learningRate": 4e-3},
    ),
    "object-detection-detr": Case(
        task="ObjectDetection",
        model=convolutions_and_queries,
        data=make_data.scenes,
        metric="mAP50",
        reaches=0.1,
        inputs=SCENES,
        answered=finds_the_rectangles,
        methods=("lora", "qlora", "ia3", "adalora"),
        training={"maxSteps": 160, "learningRate": 3e-3},
    ),
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
