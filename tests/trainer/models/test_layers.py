"""How deep each weight of each kind of model stands; what freezing, decay by layer and Muon go by."""

from collections.abc import Callable
from typing import Any

import pytest

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}


def of(auto: str, kind: str, **sizes: Any) -> Callable[[], Any]:
    def made() -> Any:
        import transformers

        return getattr(transformers, auto).from_config(transformers.AutoConfig.for_model(kind, **sizes))

    return made


def detr() -> Any:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic")
    backbone.out_features = ["stage2"]
    sizes = {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in (("layers", 1), ("ffn_dim", 16))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 5}
    return DetrForObjectDetection(DetrConfig(backbone_config=backbone, d_model=16, **sizes, **heads))


def adapted_bert() -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(BERT(), LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))


BERT = of("AutoModelForSequenceClassification", "bert", **SIZES)
GPT2 = of("AutoModelForCausalLM", "gpt2", vocab_size=64, n_embd=32, n_layer=2, n_head=4)
BART = of(
    "AutoModelForSeq2SeqLM",
    "bart",
    vocab_size=64,
    d_model=32,
    **{f"{part}_layers": 2 for part in ("encoder", "decoder")},
    **{f"{part}_attention_heads": 4 for part in ("encoder", "decoder")},
)
WAV2VEC2 = of(
    "AutoModelForAudioClassification",
    "wav2vec2",
    **SIZES,
    conv_dim=[16, 16],
    conv_kernel=[10, 3],
    conv_stride=[5, 2],
    num_feat_extract_layers=2,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    use_weighted_layer_sum=True,
)


@pytest.mark.parametrize(
    ("model", "layers", "expected"),
    [
        (BERT, 2, {"bert.embeddings": 0, "bert.encoder.layer.1": 2, "bert.pooler": 3, "classifier": 3}),
        (
            adapted_bert,
            2,
            {
                "base_model.model.bert.embeddings": 0,
                "base_model.model.bert.encoder.layer.0": 1,
                "base_model.model.bert.pooler": 3,
                "base_model.model.classifier": 3,
            },
        ),
        (GPT2, 2, {"transformer.wte": 0, "transformer.wpe": 0, "transformer.h.0": 1, "transformer.ln_f": 3}),
        (
            of("AutoModelForCausalLM", "llama", **SIZES),
            2,
            {"model.embed_tokens": 0, "model.layers.1": 2, "model.norm": 3, "lm_head": 3},
        ),
        (
            of("AutoModelForSeq2SeqLM", "t5", vocab_size=64, d_model=32, num_layers=2, num_heads=4, d_kv=8, d_ff=48),
            4,
            {"shared": 0, "encoder.block.1": 2, "encoder.final_layer_norm": 3, "decoder.final_layer_norm": 5},
        ),
        (
            BART,
            4,
            {
                "model.shared": 0,
                "model.encoder.embed_positions": 0,
                "model.encoder.layernorm_embedding": 0,
                "model.encoder.layers.0": 1,
                "model.decoder.embed_positions": 3,
                "model.decoder.layers.0": 3,
                "model.decoder.layernorm_embedding": 3,
                "model.decoder.layers.1": 4,
            },
        ),
        (
            WAV2VEC2,
            4,
            {
                "wav2vec2.masked_spec_embed": 0,
                "wav2vec2.feature_extractor.conv_layers.1": 2,
                "wav2vec2.feature_projection": 3,
                "wav2vec2.encoder.pos_conv_embed": 3,
                "wav2vec2.encoder.layer_norm": 3,
                "wav2vec2.encoder.layers.0": 3,
                "layer_weights": 5,
                "projector": 5,
                "classifier": 5,
            },
        ),
        (
            of("AutoModelForImageClassification", "vit", **SIZES | {"image_size": 16, "patch_size": 4}),
            2,
            {"vit.embeddings": 0, "vit.layers.0": 1, "vit.layernorm": 3, "classifier": 3},
        ),
        (
            detr,
            4,
            {
                "model.backbone.model.embedder": 0,
                "model.backbone.model.encoder.stages.1": 2,
                "model.input_projection": 3,
                "model.encoder.layers.0": 3,
                "model.decoder.layers.0": 4,
                "model.decoder.layernorm": 5,
                "class_labels_classifier": 5,
                "bbox_predictor": 5,
            },
        ),
        (
            of("AutoModelForImageClassification", "resnet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
            2,
            {"resnet.embedder": 0, "resnet.encoder.stages.1": 2, "classifier": 3},
        ),
    ],
    ids=["bert", "adapted", "gpt2", "llama", "t5", "bart", "wav2vec2", "vit", "detr", "resnet"],
)
def test_each_weight_stands_where_the_model_uses_it(
    model: Callable[[], Any], layers: int, expected: dict[str, int]
) -> None:
    from finetune_trainer.models.layers import depths, layer_prefixes

    made = model()
    prefixes = layer_prefixes(made)
    found = depths(made, prefixes)
    assert len(prefixes) == layers, prefixes
    for part, depth in expected.items():
        own = {name: found[name] for name in found if name == part or name.startswith(f"{part}.")}
        assert set(own.values()) == {depth}, own


def test_muon_takes_no_matrix_that_stands_between_layers() -> None:
    from finetune_trainer.loop.optimizer import hidden_matrices

    model = BART()
    hidden = hidden_matrices(model, dict(model.named_parameters()))
    assert "model.decoder.layers.0.fc1.weight" in hidden
    assert not [name for name in hidden if "embed" in name]
