"""A model that learns chats learns to stop, whatever token its template ends a turn with, and is stopped there."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_serving.conversation import end_tokens, prompted_tokens
from finetune_trainer.export.artifact import end_where_learnt
from finetune_trainer.models.tokenizer import load_tokenizer
from trainer.tasks.test_turns import ANSWERED, learnt

TURN = "<|im_end|>"
MARKED = "{% generation %}{{ m['content'] }}{% endgeneration %}"


def template(content: str, end: str) -> str:
    return (
        "{% for m in messages %}{{ m['role'] }} {% if m['role'] == 'assistant' %}"
        + content
        + "{% else %}{{ m['content'] }}{% endif %}"
        + end
        + "{% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
    )


@pytest.fixture
def tokenizer(tiny_llama: Path) -> Any:
    """Of a base model: a token ends turns, and its end token is another."""
    made = load_tokenizer(tiny_llama)
    made.add_special_tokens({"additional_special_tokens": [TURN]})
    return made


@pytest.mark.parametrize("content", [MARKED, "{{ m['content'] }}"], ids=["markers", "prefixes"])
def test_the_token_that_ends_a_turn_is_learnt_and_stopped_at(content: str, tokenizer: Any) -> None:
    tokenizer.chat_template = template(content, f" {TURN} ")
    assert learnt({"messages": ANSWERED}, tokenizer) == f"user how {TURN} assistant [thanks] [{TURN}]"
    assert end_tokens(tokenizer) == [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(TURN)]


@pytest.mark.parametrize("content", [MARKED, "{{ m['content'] }}"], ids=["markers", "prefixes"])
def test_a_template_without_an_end_gets_the_tokenizers(content: str, tokenizer: Any) -> None:
    tokenizer.chat_template = template(content, " ")
    assert learnt({"messages": ANSWERED}, tokenizer) == "user how assistant [thanks] [</s>]"
    assert end_tokens(tokenizer) == [tokenizer.eos_token_id]
    _, said = prompted_tokens(tokenizer, ANSWERED[:1], ANSWERED[1:])
    assert said[-1] == tokenizer.eos_token_id, "pairs that are compared end too"


def test_whoever_writes_with_the_exported_files_stops_there(tokenizer: Any, tmp_path: Path) -> None:
    """Llama 2 was published with settings that transformers refuses to save when anything is changed."""
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": 7, "temperature": 0.9, "do_sample": False}))
    tokenizer.chat_template = template(MARKED, f" {TURN} ")
    end_where_learnt(tmp_path, tokenizer)
    ends = [7, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(TURN)]
    assert json.loads(file.read_text()) == {"eos_token_id": ends, "temperature": 0.9, "do_sample": False}
