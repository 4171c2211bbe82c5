"""Tiny random models exported the way the trainer does, written to a folder."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from finetune_api.artifact import DESCRIPTION_FILE, ArtifactDescription
from finetune_api.manifest import write_manifest
from finetune_api.model_reference import ModelReference

LABELS = ["billing", "bug", "praise"]
WORDS = [
    "the",
    "my",
    "invoice",
    "is",
    "wrong",
    "app",
    "crashes",
    "when",
    "i",
    "open",
    "it",
    "love",
    "this",
    "product",
    "thank",
    "you",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + m.role) }}{% endif %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def word_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """One token a word, [CLS] and [SEP] around."""
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=max_length,
    )


def byte_tokenizer(max_length: int, chat_template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """One token a byte, so that any text can be written and read back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|end|>": 0} | {character: index + 1 for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        bos_token="<|end|>",
        model_max_length=max_length,
        chat_template=chat_template,
    )


def bert(seed: int = 0, max_length: int = 32, labels: int = len(LABELS)) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS) + 4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=max_length,
        num_labels=labels,
        initializer_range=0.5,
    )
    return BertForSequenceClassification(config).eval()


def gpt2(seed: int = 0, max_length: int = 256, width: int = 32) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=257,
        n_positions=max_length,
        n_embd=width,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.3,
    )
    return GPT2LMHeadModel(config).eval()


def classifier_artifact(folder: Path, seed: int = 0, max_length: int = 32) -> str:
    """A whole classification model; returns the digest."""
    bert(seed, max_length).save_pretrained(folder)
    word_tokenizer(max_length).save_pretrained(folder)
    return finish(folder, ArtifactDescription(task="TextClassification", labels=LABELS, max_length=max_length))


def generator_artifact(folder: Path, *, chat_template: str | None = CHAT_TEMPLATE, **options: Any) -> str:
    """A whole generator; returns the digest."""
    model = gpt2(**options)
    model.save_pretrained(folder)
    byte_tokenizer(model.config.n_positions, chat_template).save_pretrained(folder)
    return finish(folder, ArtifactDescription(task="TextGeneration"))


def endless_generator_artifact(folder: Path, max_length: int) -> str:
    """A generator that never chooses its end token at temperature 0; returns the digest."""
    model = gpt2(max_length=max_length)
    # Without a head bias the end token's logit is exactly 0 now, and some other one is always above.
    model.transformer.wte.weight.data[0] = 0
    model.save_pretrained(folder)
    byte_tokenizer(max_length).save_pretrained(folder)
    return finish(folder, ArtifactDescription(task="TextGeneration"))


def adapter_artifact(folder: Path, base: Path) -> torch.nn.Module:
    """A LoRA adapter with weights that matter, on the classifier in `base`; returns the two together."""
    torch.manual_seed(7)
    model = BertForSequenceClassification.from_pretrained(base, num_labels=len(LABELS), ignore_mismatched_sizes=True)
    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"], init_lora_weights=False)
    adapted = get_peft_model(model, config).eval()
    adapted.save_pretrained(folder)
    word_tokenizer(32).save_pretrained(folder)
    description = ArtifactDescription(
        task="TextClassification",
        format="Adapter",
        labels=LABELS,
        base_model=ModelReference(source=f"file://{base}"),
    )
    finish(folder, description)
    return adapted


def finish(folder: Path, description: ArtifactDescription) -> str:
    """Write finetune.json, then the manifest; returns the digest."""
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description.wire()))
    return write_manifest(folder)
