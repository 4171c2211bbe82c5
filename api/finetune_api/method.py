"""How the weights change: all of them, or a small adapter."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from finetune_api.base import Schema, rule, schema_with
from finetune_api.unknown import the_one

METHODS = ("full", "lora", "qlora", "ia3", "promptTuning", "pTuning", "prefixTuning", "adalora")
"""Names on the wire; a job sets exactly one."""
ONE_OF = f"set exactly one of {', '.join(METHODS)}"

LayerNames = Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=64, min_length=1)]


class Full(Schema):
    """Train every weight, or all but the lowest layers."""

    frozen_layers: int = Field(
        0,
        ge=0,
        le=10000,
        description="So many of the lowest layers stay as they are, and with them what lies below: the embeddings, and "
        "an output head that shares their weights.",
    )
    frozen_modules: LayerNames | None = Field(
        None, description="Names of further modules that stay as they are, such as embeddings or pooler."
    )


class Lora(Schema):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule(
                "self.init != 'PiSSA' || (self.dropout == 0.0 && !self.dora)",
                "init PiSSA goes neither with dropout nor with dora: set dropout 0 and dora false, or init Default",
            ),
        ]
    )
    rank: int = Field(8, ge=1, le=1024, description="Rank of the update; more rank, more capacity and memory.")
    alpha: float | None = Field(
        None, gt=0, description="Scale of the update. Default: twice the rank; with rslora 16, whatever the rank."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="On the adapter's input.")
    target_modules: LayerNames | None = Field(
        None,
        description="Names of the layers to adapt. Default: the attention and MLP layers of the model's family.",
    )
    rslora: bool = Field(
        False,
        description="Divide alpha by the square root of the rank, which keeps high ranks stable (rsLoRA, "
        "arXiv:2312.03732).",
    )
    dora: bool = Field(
        False,
        description="Train the length of each weight vector apart from its direction (DoRA, arXiv:2402.09353); "
        "often better at low rank, and slower.",
    )
    init: Literal["Default", "PiSSA"] = Field(
        "Default",
        description="PiSSA starts from the greatest singular values of each layer instead of zero (arXiv:2404.02948).",
    )

    @model_validator(mode="after")
    def pissa_stands_alone(self) -> "Lora":
        if self.init == "PiSSA" and (self.dropout or self.dora):
            raise ValueError(
                "init PiSSA holds part of the weights in the adapter, so it goes neither with dropout nor with dora; "
                "set dropout 0 and dora false, or init Default"
            )
        return self


class QLora(Schema):
    """LoRA beside a base model whose linear layers are held in 4 or 8 bits (Dettmers et al. 2023, arXiv:2305.14314)."""

    rank: int = Field(8, ge=1, le=1024, description="Rank of the update; more rank, more capacity and memory.")
    alpha: float | None = Field(None, gt=0, description="Scale of the update. Default: twice the rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="On the adapter's input.")
    target_modules: LayerNames | None = Field(
        None,
        description="Names of the layers to adapt. Default: the attention and MLP layers of the model's family.",
    )
    quantization: Literal["NF4", "Int8"] = Field(
        "NF4",
        description="NF4 takes 4 bits a weight; Int8 takes 8, computes in integers (arXiv:2208.07339) and changes the "
        "base model less.",
    )
    double_quantization: bool = Field(
        True, description="NF4: quantize the scales of the weights too, which saves 0.4 bits a weight."
    )


class Ia3(Schema):
    """A learnt factor for each activation of keys, values and MLP (IA³, Liu et al. 2022, arXiv:2205.05638)."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule(
                "!has(self.feedforwardModules) || has(self.targetModules)",
                "feedforwardModules needs targetModules",
            ),
        ]
    )
    target_modules: LayerNames | None = Field(
        None,
        description="Names of the layers whose outputs are scaled. Default: keys and values of the model's family.",
    )
    feedforward_modules: LayerNames | None = Field(
        None,
        description="Names of further layers, whose inputs are scaled. Default: the last layer of each MLP, unless "
        "targetModules is set.",
    )

    @model_validator(mode="after")
    def layers_are_named_together(self) -> "Ia3":
        if self.feedforward_modules and not self.target_modules:
            raise ValueError("feedforwardModules needs targetModules: name the layers whose outputs are scaled too")
        return self


class VirtualTokens(Schema):
    """What the methods have in common that put learnt tokens before the text."""

    virtual_tokens: int = Field(
        20, ge=1, le=1024, description="Learnt tokens before each text; they take that many of the model's positions."
    )


class PromptTuning(VirtualTokens):
    """Learnt input embeddings before each text (Lester et al. 2021, arXiv:2104.08691)."""

    init_text: str | None = Field(
        None,
        min_length=1,
        max_length=8192,
        description="The embeddings start as those of this text, cut or repeated. Default: of random tokens.",
    )


class PTuning(VirtualTokens):
    """Learnt input embeddings that a small network makes while it trains (Liu et al. 2021, arXiv:2103.10385)."""

    encoder: Literal["MLP", "LSTM"] = Field("MLP", description="The network; it is not part of the result.")
    encoder_hidden_size: int | None = Field(
        None, ge=1, le=65536, description="Width of the network. Default: that of the model."
    )


class PrefixTuning(VirtualTokens):
    """Learnt keys and values before those of each text, in every layer (Li and Liang 2021, arXiv:2101.00190)."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule(
                "!has(self.encoderHiddenSize) || self.projection",
                "encoderHiddenSize is the width of the projection: set projection, or remove it",
            ),
        ]
    )
    projection: bool = Field(
        False, description="Make the prefix by a small network while it trains, which is steadier and slower."
    )
    encoder_hidden_size: int | None = Field(
        None, ge=1, le=65536, description="Width of that network. Default: that of the model."
    )

    @model_validator(mode="after")
    def width_of_a_network_that_is_there(self) -> "PrefixTuning":
        if self.encoder_hidden_size and not self.projection:
            raise ValueError("encoderHiddenSize is the width of the projection: set projection, or remove it")
        return self


class AdaLora(Schema):
    """LoRA that moves rank to the layers where it matters most (Zhang et al. 2023, arXiv:2303.10512)."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("self.targetRank < self.initialRank", "targetRank must be less than initialRank"),
        ]
    )
    initial_rank: int = Field(12, ge=2, le=1024, description="Rank of every layer at the start.")
    target_rank: int = Field(8, ge=1, le=1023, description="Mean rank over the layers at the end.")
    alpha: float | None = Field(None, gt=0, description="Scale of the update. Default: twice initialRank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="On the adapter's input.")
    target_modules: LayerNames | None = Field(
        None,
        description="Names of the layers to adapt. Default: the attention and MLP layers of the model's family.",
    )
    warmup: float = Field(0.1, ge=0, description="Steps before ranks begin to fall; below 1, a share of all steps.")
    final_tuning: float = Field(
        0.3, ge=0, description="Steps at the end in which ranks stay as they are; below 1, a share of all steps."
    )
    allocate_every_steps: int = Field(10, ge=1, description="Steps between two allocations of rank.")
    orthogonal_regularization: float = Field(
        0.5, ge=0, le=100, description="How strongly singular vectors are kept orthogonal."
    )

    @model_validator(mode="after")
    def rank_falls(self) -> "AdaLora":
        if self.target_rank >= self.initial_rank:
            raise ValueError(
                f"targetRank ({self.target_rank}) must be less than initialRank ({self.initial_rank}), or there is "
                "nothing to allocate; use lora for a fixed rank"
            )
        return self


class Method(Schema):
    """Exactly one of the methods."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule(f"[{', '.join(f'has(self.{name})' for name in METHODS)}].exists_one(chosen, chosen)", ONE_OF),
        ]
    )
    full: Full | None = None
    lora: Lora | None = None
    qlora: QLora | None = None
    ia3: Ia3 | None = None
    prompt_tuning: PromptTuning | None = None
    p_tuning: PTuning | None = None
    prefix_tuning: PrefixTuning | None = None
    adalora: AdaLora | None = None

    @model_validator(mode="after")
    def exactly_one(self) -> "Method":
        if len(self._chosen) != 1:
            raise ValueError(f"{ONE_OF}; got {', '.join(self._chosen) or 'none'}")
        return self

    @property
    def _chosen(self) -> list[str]:
        fields = type(self).model_fields.items()
        return [field.alias or name for name, field in fields if getattr(self, name) is not None]

    @property
    def name(self) -> str:
        """The method that is set, as on the wire: `full`, `lora`, `promptTuning` …"""
        return the_one(self._chosen)

    @property
    def makes_adapter(self) -> bool:
        """Whether the result is an adapter, which is served together with its base model."""
        return self.full is None

    @property
    def virtual_tokens(self) -> int:
        """Positions of the model that the method takes from each text."""
        chosen = self.prompt_tuning or self.p_tuning or self.prefix_tuning
        return chosen.virtual_tokens if chosen else 0
