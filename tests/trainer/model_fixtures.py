"""Tiny models and data, made once a session; the heavy imports happen only for tests that ask for a model."""

from pathlib import Path

import pytest

from trainer.jobs import NUMBERS, TICKETS, write_jsonl


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from trainer import tiny_models

    return tiny_models.bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def wild_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose random weights tell texts apart, so that a few steps suffice."""
    from trainer import tiny_models

    return tiny_models.bert(tmp_path_factory.mktemp("wild-bert"), spread=0.2)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from trainer import tiny_models

    return tiny_models.llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from trainer import tiny_models

    return tiny_models.qwen(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="session")
def tiny_deepseek(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from trainer import tiny_models

    return tiny_models.deepseek(tmp_path_factory.mktemp("deepseek"))


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from trainer import tiny_models

    return tiny_models.gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 distinct texts of three classes, of different lengths."""
    rows = [
        {"text": f"{text} {' '.join(NUMBERS[: n % 7 + 1])} {NUMBERS[n]}", "label": label}
        for n in range(10)
        for label, texts in TICKETS.items()
        for text in texts
    ]
    return write_jsonl(tmp_path_factory.mktemp("tickets") / "train.jsonl", rows)


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 prompts with completions of different lengths."""
    rows = [
        {
            "prompt": f"question : {NUMBERS[n % 10]} {NUMBERS[n // 10]} ",
            "completion": " ".join(NUMBERS[: n % 9 + 1]),
        }
        for n in range(40)
    ]
    return write_jsonl(tmp_path_factory.mktemp("questions") / "train.jsonl", rows)
