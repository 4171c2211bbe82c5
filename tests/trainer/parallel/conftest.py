"""The tiny models and data of this folder's tests."""

from trainer.model_fixtures import (  # noqa: F401
    questions,
    tickets,
    tiny_bert,
    tiny_gpt2,
    tiny_llama,
    tiny_qwen,
)
