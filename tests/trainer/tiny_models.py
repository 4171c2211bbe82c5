"""Tiny random models and their tokenizers, made once from configurations: no download, a second to train."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessorPil,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    YolosConfig,
    YolosImageProcessorPil,
    YolosModel,
)

SPEECH = """my card was charged twice please refund it the parcel never came where is cannot log in password reset
broken screen app crashes invoice billing delivery account technical thanks a to and of for hello you i user
assistant system : what how answer question one two three four five six seven eight nine ten"""
WORDS = SPEECH.split()
CHAT_TEMPLATE = (
    "{% for m in messages %}<s> {{ m['role'] }} : {% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }} </s>{% endgeneration %}{% else %}{{ m['content'] }} </s>{% endif %} "
    "{% endfor %}"
    "{% if add_generation_prompt %}<s> assistant : {% endif %}"
)
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}

DETECTOR_SIZES = {
    "hidden_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "initializer_range": 0.1,
}
BART_SIZES = {"layers": 1, "attention_heads": 4, "ffn_dim": 48}
DETR_SIZES = {"layers": 1, "attention_heads": 4, "ffn_dim": 64}


def tokenizer(special: dict[str, str], wrap: str | None) -> PreTrainedTokenizerFast:
    """Whole words and single letters; `wrap` is the special tokens' template."""
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = {t: i for i, t in enumerate(dict.fromkeys([*special.values(), *WORDS, *letters]))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if wrap:
        tokens = [(t, vocabulary[t]) for t in special.values() if t in wrap]
        backend.post_processor = processors.TemplateProcessing(single=wrap, special_tokens=tokens)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return tokenizer(special, "[CLS] $A [SEP]")


def decoder_tokenizer() -> PreTrainedTokenizerFast:
    """No padding token, as most published decoders have none."""
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    made = tokenizer(special, None)
    made.chat_template = CHAT_TEMPLATE
    return made


def save(folder: Path, model: torch.nn.Module, tokens: PreTrainedTokenizerFast) -> Path:
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def bert(folder: Path, spread: float = 0.02, **changes: int) -> Path:
    """An encoder without a head, with dropout; with a great `spread` of weights, its output tells texts apart."""
    torch.manual_seed(1)
    tokens = encoder_tokenizer()
    config = BertConfig(
        vocab_size=len(tokens), max_position_embeddings=64, initializer_range=spread, **{**SIZES, **changes}
    )
    return save(folder, BertModel(config), tokens)


def llama(folder: Path, **changes: int) -> Path:
    """A decoder without dropout."""
    torch.manual_seed(2)
    tokens = decoder_tokenizer()
    sizes = {"num_key_value_heads": 2, **SIZES, **changes}
    config = LlamaConfig(vocab_size=len(tokens), max_position_embeddings=128, **sizes)
    return save(folder, LlamaForCausalLM(_with_ends(config, tokens)), tokens)


def qwen(folder: Path) -> Path:
    """A decoder with biases in its attention."""
    torch.manual_seed(3)
    tokens = decoder_tokenizer()
    # Qwen2's tokenizer class brings a token of its own.
    config = Qwen2Config(vocab_size=len(tokens) + 8, max_position_embeddings=128, num_key_value_heads=2, **SIZES)
    return save(folder, Qwen2ForCausalLM(_with_ends(config, tokens)), tokens)


def deepseek(folder: Path) -> Path:
    """A decoder with latent attention; its second layer is a mixture of four experts beside a shared one."""
    torch.manual_seed(12)
    tokens = decoder_tokenizer()
    latent = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1}
    config = DeepseekV3Config(
        vocab_size=len(tokens),
        max_position_embeddings=128,
        moe_intermediate_size=8,
        first_k_dense_replace=1,
        **SIZES,
        **latent,
        **experts,
    )
    return save(folder, DeepseekV3ForCausalLM(_with_ends(config, tokens)), tokens)


def gpt2(folder: Path) -> Path:
    """A decoder with dropout and Conv1D layers."""
    torch.manual_seed(4)
    tokens = decoder_tokenizer()
    config = GPT2Config(vocab_size=len(tokens), n_positions=128, n_embd=32, n_layer=2, n_head=4)
    return save(folder, GPT2LMHeadModel(_with_ends(config, tokens)), tokens)


def t5(folder: Path) -> Path:
    """An encoder and a decoder that writes."""
    torch.manual_seed(5)
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    tokens = tokenizer(special, "$A </s>")
    config = T5Config(
        vocab_size=len(tokens), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    config.pad_token_id, config.eos_token_id = tokens.pad_token_id, tokens.eos_token_id
    return save(folder, T5ForConditionalGeneration(config), tokens)


def bart(folder: Path) -> Path:
    """An encoder and a decoder that writes, with a bias of each token behind its head."""
    torch.manual_seed(13)
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    tokens = tokenizer(special, "$A </s>")
    sizes = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in BART_SIZES.items()}
    config = BartConfig(vocab_size=len(tokens), max_position_embeddings=64, d_model=32, init_std=0.1, **sizes)
    config.pad_token_id = tokens.pad_token_id
    for name in ("bos_token_id", "eos_token_id", "forced_eos_token_id", "decoder_start_token_id"):
        setattr(config, name, tokens.eos_token_id)
    return save(folder, BartForConditionalGeneration(config), tokens)


def pieces(file: Path, seed: int) -> list[str]:
    """Writes a SentencePiece model of whole words, and returns its pieces."""
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    lines, made = [" ".join(WORDS[start::seed]) for start in range(seed)], BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(20 * lines), model_writer=made, model_type="word", vocab_size=99, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    file.write_bytes(made.getvalue())
    found = SentencePieceProcessor(model_proto=made.getvalue())
    return [found.id_to_piece(place) for place in range(found.get_piece_size())]


def marian(folder: Path) -> Path:
    """As the models of OPUS-MT are published: two SentencePiece models, one vocabulary, which pads at its end and whose
    padding begins what is written, and beams."""
    torch.manual_seed(14)
    folder.mkdir(parents=True, exist_ok=True)
    both = [
        piece for place, name in enumerate(("source", "target"), 7) for piece in pieces(folder / f"{name}.spm", place)
    ]
    ends = ["</s>", "<unk>"]
    named = dict.fromkeys([*ends, *(piece for piece in both if piece not in ("<s>", *ends)), "<pad>"])
    vocabulary = {piece: place for place, piece in enumerate(named)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    tokens = MarianTokenizer(*files, source_lang="en", target_lang="de", model_max_length=64)
    sizes = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in BART_SIZES.items()}
    pad = vocabulary["<pad>"]
    starts = {"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0, "forced_eos_token_id": 0}
    config = MarianConfig(
        vocab_size=len(vocabulary), max_position_embeddings=64, d_model=32, init_std=0.1, **sizes, **starts
    )
    model = MarianMTModel(config)
    model.generation_config.update(num_beams=4, bad_words_ids=[[pad]], max_length=64)
    return save(folder, model, tokens)


def vit(folder: Path) -> Path:
    """Patches of 4 pixels, for images of 16."""
    torch.manual_seed(6)
    config = ViTConfig(image_size=16, patch_size=4, **SIZES)
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def resnet(folder: Path) -> Path:
    """Convolutions with batch normalisation."""
    torch.manual_seed(7)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def yolos(folder: Path) -> Path:
    """Patches of 8 pixels, for images of 32; finds 5 objects at most. Its heads are still to be made."""
    torch.manual_seed(10)
    config = YolosConfig(
        image_size=[32, 32], patch_size=8, num_detection_tokens=5, use_mid_position_embeddings=False, **DETECTOR_SIZES
    )
    model = YolosModel(config)
    for embeddings in (model.embeddings.detection_tokens, model.embeddings.position_embeddings):
        torch.nn.init.normal_(embeddings, std=0.3)  # transformers' zeros would have to be told apart first
    model.save_pretrained(folder)
    YolosImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 48}).save_pretrained(folder)
    return folder


def detr(folder: Path) -> Path:
    """Convolutions below a transformer; finds 5 objects at most, of other classes."""
    torch.manual_seed(11)
    backbone = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    sizes = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in DETR_SIZES.items()}
    config = DetrConfig(backbone_config=backbone, use_timm_backbone=False, d_model=64, num_queries=5, **sizes)
    config.num_labels, config.dropout, config.init_std = 4, 0.0, 0.1
    model = DetrForObjectDetection(config)
    torch.nn.init.normal_(model.model.query_position_embeddings.weight)
    model.save_pretrained(folder)
    DetrImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 48}).save_pretrained(folder)
    return folder


def wav2vec2(folder: Path) -> Path:
    """Reads waves, of any length; without a mask, as wav2vec2-base. A head is still to be made."""
    torch.manual_seed(8)
    config = Wav2Vec2Config(
        conv_dim=(16, 16, 16),
        conv_kernel=(16, 8, 8),
        conv_stride=(10, 8, 4),
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        classifier_proj_size=16,
        **SIZES,
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return folder


def ast(folder: Path) -> Path:
    """Looks at spectrograms of 64 frames: 640 milliseconds."""
    torch.manual_seed(9)
    config = ASTConfig(max_length=64, num_mel_bins=16, patch_size=8, frequency_stride=8, time_stride=8, **SIZES)
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(max_length=64, num_mel_bins=16).save_pretrained(folder)
    return folder


def _with_ends(config: Any, tokens: PreTrainedTokenizerFast) -> Any:
    config.bos_token_id, config.eos_token_id = tokens.bos_token_id, tokens.eos_token_id
    return config
