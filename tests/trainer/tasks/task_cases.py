"""One row a task: a tiny model, data, and what a served answer must be. What each must do is in test_every_task."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_api.method import METHODS
from trainer.jobs import FULL, NUMBERS, TICKETS, write_jsonl

Answer = dict[str, list[Any]]
"""Data of each output tensor."""


@dataclass(frozen=True)
class Subtask:
    """One of several that share an encoder."""

    task: str
    metric: str
    reaches: float
    inputs: dict[str, list[str]]
    answered: Callable[[Answer], None]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A task on a tiny model."""

    task: str
    model: Callable[[Path], Path]
    """Makes it in a folder."""
    data: Callable[[Path], Path]
    """Writes it in a folder."""
    metric: str
    """What training must improve,"""
    reaches: float
    """and where it must get."""
    inputs: dict[str, list[str]] = field(default_factory=dict)
    """A request to …/infer,"""
    answered: Callable[[Answer], None] = lambda answer: None
    """and what must hold for its answer."""
    methods: tuple[str, ...] = tuple(METHODS)
    """That train it besides its own: not what the model has no layers for, nor what another case of the task has."""
    writes: dict[str, str] = field(default_factory=dict)
    """What /v1/completions must answer to a prompt."""
    method: dict[str, Any] = field(default_factory=lambda: FULL)
    architecture: dict[str, Any] | None = None
    """Of a model that is made from the data."""
    dataset: dict[str, Any] = field(default_factory=dict)
    subtasks: dict[str, "Subtask"] = field(default_factory=dict)
    """Of MultiTask: `data` writes a file NAME.jsonl for each in its folder."""
    training: dict[str, Any] = field(default_factory=dict)


def encoder(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.bert(folder)


def wild_encoder(folder: Path) -> Path:
    """Its random weights tell texts apart, so that a few steps suffice."""
    from trainer import tiny_models

    return tiny_models.bert(folder, spread=0.1)


def tagged_numbers(folder: Path) -> Path:
    """Two numbers in a row are one entity: a parcel below six, an invoice from there."""
    rows = []
    for n in range(80):
        before, after = ["hello", "my", "please", "the"][: n % 5], ["is", "broken", "where"][: n % 4]
        low = n % 2 * 5
        numbers = [NUMBERS[low + n % 5], NUMBERS[low + n // 16]]
        kind = "INVOICE" if low else "PARCEL"
        tags = ["O"] * len(before) + [f"B-{kind}", f"I-{kind}"] + ["O"] * len(after)
        rows.append({"tokens": [*before, *numbers, *after], "tags": tags})
    return write_jsonl(folder / "train.jsonl", rows)


def finds_the_parcel(answer: Answer) -> None:
    import json

    first, second = [json.loads(row) for row in answer["entities"]]
    assert [(e["text"], e["type"], e["start"], e["end"]) for e in first] == [("two five", "PARCEL", 9, 17)]
    assert [(e["text"], e["type"]) for e in second] == [("nine six", "INVOICE")]
    assert 0.3 < first[0]["score"] <= 1


def reader_and_writer(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.t5(folder)


def reader_and_writer_with_a_bias(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.bart(folder)


def published_translator(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.marian(folder)


REPLIES = {"parcel": "the parcel never came", "invoice": "please refund the invoice"}


def replies(folder: Path) -> Path:
    """What is written depends on one word of what is read."""
    rows = [
        {
            "prompt": f"{NUMBERS[n % 10]} {['parcel', 'invoice'][n % 2]} {NUMBERS[n // 10]}",
            "completion": REPLIES[["parcel", "invoice"][n % 2]],
        }
        for n in range(80)
    ]
    return write_jsonl(folder / "train.jsonl", rows)


def patches(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.vit(folder)


def convolutions(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.resnet(folder)


def image(bright: bool, seed: int, size: int = 20) -> Any:
    """Noise, brighter on the left or on the right."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 120, (size, size, 3), dtype=np.uint8)
    half = slice(0, size // 2) if bright else slice(size // 2, size)
    pixels[:, half] += 120
    return Image.fromarray(pixels)


def class_folders(folder: Path) -> Path:
    for n in range(60):
        side = ["left", "right"][n % 2]
        (folder / side).mkdir(parents=True, exist_ok=True)
        image(side == "left", n).save(folder / side / f"{n}.png")
    return folder


def listed_images(folder: Path) -> Path:
    class_folders(folder / "images")
    files = sorted((folder / "images").rglob("*.png"))
    rows = [{"image": str(file.relative_to(folder)), "label": file.parent.name} for file in files]
    return write_jsonl(folder / "train.jsonl", rows)


def in_base64(seed: int, bright: bool) -> str:
    import base64
    from io import BytesIO

    content = BytesIO()
    image(bright, seed).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def tells_the_sides(answer: Answer) -> None:
    assert answer["label"] == ["left", "right", "left"]
    assert answer["scores"][0] > 0.5


IMAGES = {"image": [in_base64(100, True), in_base64(101, False), in_base64(102, True)]}


def questions_on_texts(folder: Path) -> Path:
    """The answer is the one number of the context."""
    rows = []
    for n in range(80):
        before, after = ["hello", "my", "please", "the"][: n % 5], ["is", "broken", "where"][: n % 4]
        number = NUMBERS[n % 10]
        context = " ".join([*before, number, *after])
        answers = {"text": [number], "answer_start": [len(" ".join([*before, ""]))]}
        rows.append({"question": f"what {NUMBERS[n // 10]} question", "context": context, "answers": answers})
    return write_jsonl(folder / "train.jsonl", rows)


QUESTIONS = {
    "question": ["what five question", "what six question"],
    "context": ["hello my seven is broken", "hello two is"],
}


def finds_the_number(answer: Answer) -> None:
    assert answer["answer"] == ["seven", "two"]
    assert answer["span"] == [9, 14, 6, 9]
    assert all(0.2 < score <= 1 for score in answer["score"])


def writer(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.llama(folder)


def decoder_with_biases(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.qwen(folder)


def mixture_of_experts(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.deepseek(folder)


def three_tasks(folder: Path) -> Path:
    """A file for each."""
    rows = [
        {"body": f"{NUMBERS[n % 10]} {texts[n % 3]} {NUMBERS[n % 7]}", "queue": queue}
        for n in range(30)
        for queue, texts in TICKETS.items()
    ]
    write_jsonl(folder / "intent.jsonl", rows)
    tagged = []
    for row in rows:
        words = row["body"].split()
        tags = [f"B-{word.upper()}" if word in ("parcel", "invoice") else "O" for word in words]
        tagged.append({"tokens": words, "tags": tags})
    write_jsonl(folder / "entities.jsonl", tagged)
    questions_on_texts(folder).rename(folder / "answers.jsonl")
    return folder


def tells_the_queue(answer: Answer) -> None:
    assert answer["label"] == ["billing", "delivery"]
    assert answer["scores"][0] > 0.5


def finds_the_things(answer: Answer) -> None:
    import json

    found = [[(e["text"], e["type"], e["start"]) for e in json.loads(row)] for row in answer["entities"]]
    assert found == [[("invoice", "INVOICE", 22)], [("parcel", "PARCEL", 17)]]


def three_subtasks() -> dict[str, Subtask]:
    """Made of cases that stand above."""
    ticket = {"text": ["one please refund the invoice", "five where is my parcel two"]}
    columns = {"columns": {"text": "body", "label": "queue"}}
    return {
        "intent": Subtask("TextClassification", "accuracy", 0.95, ticket, tells_the_queue, columns),
        "entities": Subtask("TokenClassification", "f1", 0.9, ticket, finds_the_things),
        "answers": Subtask("QuestionAnswering", "f1", 0.9, QUESTIONS, finds_the_number),
    }


POLITE, RUDE = ["thanks a", "please you"], ["what is broken", "crashes"]


def preferences(folder: Path) -> Path:
    """Polite answers are preferred, whatever the question."""
    rows = []
    for n in range(80):
        prompt = f"question : {NUMBERS[n % 10]} {NUMBERS[n // 10]}"
        polite, rude = f"{NUMBERS[n % 7]} {POLITE[n % 2]}", f"{NUMBERS[n % 7]} {RUDE[n // 2 % 2]}"
        rows.append({"prompt": prompt, "chosen": polite, "rejected": rude})
    return write_jsonl(folder / "train.jsonl", rows)


def chats(folder: Path) -> Path:
    """The same as whole chats."""
    import json

    rows = []
    for line in preferences(folder).read_text().splitlines():
        row = json.loads(line)
        asked = {"role": "user", "content": row["prompt"]}
        rows.append({r: [asked, {"role": "assistant", "content": row[r]}] for r in ("chosen", "rejected")})
    return write_jsonl(folder / "train.jsonl", rows)


def likes_the_polite(answer: Answer) -> None:
    polite, rude = answer["score"]
    assert polite > rude + 1


def judged(folder: Path) -> Path:
    """Each completion of the pairs on its own, with whether it was the better one."""
    import json

    rows = []
    for line in preferences(folder).read_text().splitlines():
        row = json.loads(line)
        for role in ("chosen", "rejected"):
            rows.append({"prompt": row["prompt"], "completion": row[role], "label": role == "chosen"})
    return write_jsonl(folder / "train.jsonl", rows)


def questions_with_answers(folder: Path) -> Path:
    """Prompts, and what completions are compared with."""
    rows = [{"prompt": f"question : {NUMBERS[n % 10]} {NUMBERS[n // 10]}", "answer": "thanks"} for n in range(60)]
    return write_jsonl(folder / "train.jsonl", rows)


def rewarded(algorithm: str) -> dict[str, Any]:
    """For one of some words, and for being short."""
    rewards = [
        {"pattern": {"expression": "thanks|parcel"}},
        {"exactMatch": {"extract": "[a-z]+"}, "weight": 0.5},
        {"length": {"tokens": 2}, "weight": 0.2},
    ]
    return {"algorithm": algorithm, "rewards": rewards, "groupSize": 8, "maxNewTokens": 4, "beta": 0.01}


CASES = {
    "multi-task": Case(
        task="MultiTask",
        model=wild_encoder,
        data=three_tasks,
        metric="average",
        reaches=0.9,
        subtasks=three_subtasks(),
        training={"maxSteps": 64, "batchSize": 16, "microBatchSize": 8, "learningRate": 5e-3},
    ),
    "group-relative-rewards": Case(
        task="ReinforcementLearning",
        model=writer,
        data=questions_with_answers,
        metric="reward",
        reaches=1.0,
        methods=(),
        training={"reinforcement": rewarded("GRPO"), "maxSteps": 16, "dataset": {"split": {"test": 0.2}}},
    ),
    "leave-one-out-rewards": Case(
        task="ReinforcementLearning",
        model=writer,
        data=questions_with_answers,
        metric="reward",
        reaches=1.0,
        method={"lora": {"rank": 8}},
        methods=(),
        training={
            "reinforcement": rewarded("RLOO"),
            "maxSteps": 16,
            "learningRate": 2e-2,
            "dataset": {"split": {"test": 0.2}},
        },
    ),
    "proximal-policy": Case(
        task="ReinforcementLearning",
        model=writer,
        data=questions_with_answers,
        metric="reward",
        reaches=1.0,
        method={"lora": {"rank": 8}},
        training={
            "reinforcement": {
                **rewarded("PPO"),
                "passes": 2,
                "miniBatches": 3,
                "ppo": {"headLearningRate": 5e-2, "entropyWeight": 0.01},
            },
            "maxSteps": 48,
            "learningRate": 1e-2,
            "dataset": {"split": {"test": 0.2}},
        },
    ),
    "direct-preferences": Case(
        task="PreferenceOptimization",
        model=writer,
        data=preferences,
        metric="accuracy",
        reaches=0.95,
        method={"lora": {"rank": 4, "rslora": True, "init": "PiSSA"}},
        training={"preference": {"beta": 0.5}, "maxSteps": 16},
    ),
    "judged-completions": Case(
        task="PreferenceOptimization",
        model=writer,
        data=judged,
        metric="accuracy",
        reaches=0.95,
        training={
            "preference": {"loss": "KTO", "beta": 0.5, "undesirableWeight": 0.8},
            "learningRate": 3e-3,
            "maxSteps": 16,
        },
        methods=(),
    ),
    "reward-modeling-encoder": Case(
        task="RewardModeling",
        model=encoder,
        data=preferences,
        metric="accuracy",
        reaches=0.95,
        training={"maxSteps": 16},
        inputs={"prompt": ["question : six ten"] * 2, "completion": ["two thanks a", "two what is broken"]},
        answered=likes_the_polite,
    ),
    "reward-modeling-chats": Case(
        task="RewardModeling",
        model=writer,
        data=chats,
        metric="accuracy",
        reaches=0.95,
        inputs={
            "prompt": ['[{"role": "user", "content": "question : six ten"}]'] * 2,
            "completion": ["two thanks a", "two what is broken"],
        },
        answered=likes_the_polite,
        methods=("lora",),
        method={"lora": {"rank": 4}},
        training={"maxSteps": 16},
    ),
    "question-answering": Case(
        task="QuestionAnswering",
        model=encoder,
        data=questions_on_texts,
        metric="f1",
        reaches=0.9,
        inputs=QUESTIONS,
        answered=finds_the_number,
        method={"full": {"frozenLayers": 1}},
    ),
    "image-classification-vit": Case(
        task="ImageClassification",
        model=patches,
        data=class_folders,
        metric="accuracy",
        reaches=0.9,
        inputs=IMAGES,
        answered=tells_the_sides,
    ),
    "image-classification-resnet": Case(
        task="ImageClassification",
        model=convolutions,
        data=listed_images,
        metric="accuracy",
        reaches=0.9,
        inputs=IMAGES,
        answered=tells_the_sides,
        methods=("lora", "adalora"),
        dataset={"augmentation": {"image": {"verticalFlip": True, "rotation": 10, "crop": 0.2, "hue": 0.1}}},
    ),
    "text-generation-deepseek": Case(
        task="TextGeneration",
        model=mixture_of_experts,
        data=replies,
        metric="loss",
        reaches=0.5,
        writes={"five parcel six": REPLIES["parcel"], "two invoice nine": REPLIES["invoice"]},
        methods=("lora", "adalora", "ia3", "promptTuning", "pTuning"),
        training={"maxSteps": 40},
    ),
    "text-generation-qwen": Case(
        task="TextGeneration",
        model=decoder_with_biases,
        data=replies,
        metric="loss",
        reaches=0.5,
        methods=(),
        training={"maxSteps": 72},
    ),
    "seq2seq": Case(
        task="Seq2Seq",
        model=reader_and_writer,
        data=replies,
        metric="rougeL",
        reaches=0.9,
        writes={"five parcel six": REPLIES["parcel"], "two invoice": REPLIES["invoice"]},
        training={"maxSteps": 40},
    ),
    "seq2seq-bart": Case(
        task="Seq2Seq",
        model=reader_and_writer_with_a_bias,
        data=replies,
        metric="rougeL",
        reaches=0.9,
        writes={"five parcel six": REPLIES["parcel"], "two invoice": REPLIES["invoice"]},
        methods=("lora",),
    ),
    "seq2seq-marian": Case(
        task="Seq2Seq",
        model=published_translator,
        data=replies,
        metric="bleu",
        reaches=0.9,
        writes={"five parcel six": REPLIES["parcel"], "two invoice": REPLIES["invoice"]},
        methods=("lora",),
        training={"maxSteps": 72, "learningRate": 5e-3},
    ),
    "token-classification": Case(
        task="TokenClassification",
        model=encoder,
        data=tagged_numbers,
        metric="f1",
        reaches=0.8,
        inputs={"text": ["hello my two five is broken", "please nine six"]},
        answered=finds_the_parcel,
    ),
}
