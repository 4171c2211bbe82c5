"""Whether a model can do a task, decided from its configuration before the weights are read."""

from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from finetune_api.method import Method
from finetune_api.method_support import Feature, refusal
from finetune_serving.recordings import window
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.tasks.task import Task


def check_suitable(config: Any, task: Task, trust_remote_code: bool) -> None:
    """Raises ConfigurationError with what to do instead."""
    check_attention(config)
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False) and task.name == "TextGeneration":
        raise ConfigurationError(
            f"model.source: {kind} is an encoder-decoder model; set task to Seq2Seq, or use a decoder such as "
            "Llama, Qwen or GPT-2"
        )
    if task.name == "TextGeneration" and is_encoder(config):
        raise ConfigurationError(
            f"model.source: {kind} is an encoder, it cannot generate text; use a decoder such as Llama, Qwen or "
            "GPT-2, or set task to TextClassification"
        )
    if task.name == "MultiTask" and not (kind in task.model_types and is_encoder(config)):
        raise ConfigurationError(
            f"model.source: models of the type {kind!r} are no encoders that the heads of these subtasks can share; "
            "use BERT, RoBERTa, DistilBERT, DeBERTa, ModernBERT or their like"
        )
    if not (kind in task.model_types or (trust_remote_code and getattr(config, "auto_map", None))):
        raise ConfigurationError(
            f"model.source: no {task.name} model of the type {kind!r} is known; use one of another type"
            + ("" if trust_remote_code else ", or set model.trustRemoteCode if its own code brings one")
        )


def check_attention(config: Any) -> None:
    """Raises ConfigurationError for what transformers' DeepSeek-V2 would only fail at in its first step."""
    if config.model_type != "deepseek_v2":
        return
    if config.num_key_value_heads != config.num_attention_heads:
        raise ConfigurationError(
            f"model.source: config.json has num_key_value_heads {config.num_key_value_heads} and num_attention_heads "
            f"{config.num_attention_heads}, and latent attention makes a key for every head; set both to the same"
        )
    if config.topk_method not in ROUTED_BY:
        raise ConfigurationError(
            f"model.source: config.json has topk_method {config.topk_method!r}, and transformers routes models of the "
            f"type 'deepseek_v2' by {' or '.join(ROUTED_BY)}; set model_type to deepseek_v3 if it is one"
        )


def check_method(config: Any, task: str, method: Method) -> None:
    """Raises ConfigurationError for a method that the model would not take, or take wrongly."""
    if method.prefix_tuning and config.model_type in LATENT_ATTENTION:
        raise ConfigurationError(
            f"method.prefixTuning: models of the type {config.model_type!r} cache keys and values of other sizes than "
            "the learnt ones would have; use promptTuning or lora"
        )
    if method.prefix_tuning and _shares_keys(config):
        raise ConfigurationError(
            "method.prefixTuning: the heads of this Falcon share keys and values, and PEFT would learn some for each; "
            "use promptTuning or lora"
        )
    if task not in ("TextClassification", "TokenClassification", "QuestionAnswering", "RewardModeling"):
        return
    by_decoders = CLASSIFYING_DECODERS.get(task)
    reason = refusal(method.name, by_decoders) if by_decoders else None
    if reason and not is_encoder(config):
        raise ConfigurationError(reason)
    kind = config.model_type
    if method.prefix_tuning and is_encoder(config) and kind not in PREFIXED_ENCODERS:
        raise ConfigurationError(
            f"method.prefixTuning cannot be put on a classifier of the type {kind!r}, only on "
            f"{', '.join(PREFIXED_ENCODERS)} and decoders; use promptTuning or lora"
        )


def _shares_keys(config: Any) -> bool:
    """Falcon tells it otherwise than by `num_key_value_heads`, where PEFT looks."""
    return config.model_type == "falcon" and (config.multi_query or config.new_decoder_architecture)


def is_encoder(config: Any) -> bool:
    """BERT and its kin: they see the whole text at once, so they cannot continue it."""
    masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return masked and not getattr(config, "is_decoder", False)


def longest_input(config: Any, processor: Any = None) -> int | None:
    """Positions that the model has, or milliseconds that it listens to; None when it says neither."""
    if processor is not None and (listens := window(processor)):
        return listens
    if hasattr(processor, "sampling_rate") or config.model_type in RELATIVE_POSITIONS:
        return None
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            # RoBERTa's positions start after its padding index.
            offset = config.pad_token_id + 1 if config.model_type in ROBERTA_POSITIONS else 0
            return value - offset
    return None


CLASSIFYING_DECODERS: dict[str, Feature] = {
    "TextClassification": "TextClassification, decoders",
    "RewardModeling": "RewardModeling, decoders",
}
"""Tasks with one output a text, which decoders give at its last token."""
ROUTED_BY = ("greedy", "group_limited_greedy")
LATENT_ATTENTION = frozenset({"deepseek_v2", "deepseek_v3"})
"""Decoders whose keys are wider than their values, and for which PEFT makes a prefix of one width."""
PREFIXED_ENCODERS = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
"""Encoders whose classifiers PEFT takes apart rightly; of others it leaves out what lies before the last layer."""

RELATIVE_POSITIONS = frozenset({"t5", "mt5", "umt5", "longt5", "switch_transformers"})
"""Models that know distances only; some of their config.json name the length of their pre-training all the same."""
ROBERTA_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "longformer", "mpnet", "esm"})
