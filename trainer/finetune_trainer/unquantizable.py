"""What bitsandbytes leaves as it is: it knows linear layers alone. PyTorch is not needed to know."""

from finetune_trainer.errors import ConfigurationError

MOST_LEFT = 0.6
"""Share of the weights that may stay as they are."""
JOINED_EXPERTS = frozenset({"deepseek_v2", "deepseek_v3", "gpt_oss", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe"})
"""Values of `model_type` whose experts transformers 5 joins into one tensor a layer, however the files hold them."""


def refuse_most_left(share: float, kind: str) -> None:
    """Raises ConfigurationError when so much would stay as it is that quantizing gains little."""
    if share > MOST_LEFT:
        raise ConfigurationError(
            f"method.qlora: {share:.0%} of the weights of models of the type {kind!r} are experts or "
            "convolutions, which bitsandbytes does not quantize, so that little memory is saved; use lora, with "
            "distributed.fsdp or distributed.deepspeed.zeroStage 3 where a model is too large for one device"
        )
