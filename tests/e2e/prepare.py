"""Runs in a pod: fills the claim mounted at /mnt/pvc/e2e with a tiny model and data that it can learn."""

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

ROOT = Path("/mnt/pvc/e2e")
SUBJECTS = {
    "animals": ["cat", "dog", "horse", "cow", "sheep", "goat", "bird", "fish"],
    "colours": ["red", "green", "blue", "yellow", "purple", "orange", "black", "white"],
    "weather": ["rain", "snow", "sun", "wind", "fog", "storm", "cloud", "hail"],
}
FILLERS = ["the", "a", "we", "saw", "some", "today", "again", "there", "near", "very", "many", "old", "new", "little"]


def sentence(label: str, chance: random.Random) -> str:
    words = chance.sample(FILLERS, 4) + chance.sample(SUBJECTS[label], 2)
    chance.shuffle(words)
    return " ".join(words)


def write_rows(path: Path, count: int, seed: int) -> None:
    chance = random.Random(seed)
    labels = [label for label in SUBJECTS for _ in range(count)]
    chance.shuffle(labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": sentence(label, chance), "label": label}) + "\n" for label in labels))


def write_tagged(path: Path, count: int, seed: int) -> None:
    """The same sentences, in which the animals, colours and weathers are to be found."""
    chance = random.Random(seed)
    kinds = {word: f"B-{label.upper()}" for label, words in SUBJECTS.items() for word in words}
    rows = []
    for label in [label for label in SUBJECTS for _ in range(count)]:
        tokens = sentence(label, chance).split()
        rows.append({"tokens": tokens, "tags": [kinds.get(token, "O") for token in tokens]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_model(folder: Path) -> None:
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLERS, *(w for group in SUBJECTS.values() for w in group)]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertForSequenceClassification(config).save_pretrained(folder)


if __name__ == "__main__":
    write_rows(ROOT / "data" / "train.jsonl", 80, seed=1)
    write_rows(ROOT / "data" / "test.jsonl", 20, seed=2)
    write_tagged(ROOT / "data" / "tagged.jsonl", 40, seed=3)
    (ROOT / "data" / "empty.jsonl").write_text("")
    (ROOT / "data" / "torn.jsonl").write_text('{"text": "the old cat", "label": "animals"}\n{"text": "re')
    write_model(ROOT / "model")
