"""How the weights change: all of them, or a small adapter."""

from typing import Annotated

from pydantic import Field, model_validator

from finetune_api.base import Schema, rule, schema_with


class Full(Schema):
    """Train every weight."""


class Lora(Schema):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = Field(8, ge=1, le=1024)
    """Rank of the update; more rank, more capacity and memory."""
    alpha: float | None = Field(None, gt=0, description="Scale of the update. Default: twice the rank.")
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the adapter's input."""
    target_modules: list[Annotated[str, Field(max_length=128)]] | None = Field(
        None,
        max_length=64,
        min_length=1,
        description="Names of the layers to adapt. Default: the attention and MLP layers of the model's family.",
    )


class Method(Schema):
    """Exactly one of the methods."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("has(self.full) != has(self.lora)", "set exactly one of full, lora"),
        ]
    )
    full: Full | None = None
    lora: Lora | None = None

    @model_validator(mode="after")
    def exactly_one(self) -> "Method":
        chosen = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(chosen) != 1:
            raise ValueError(f"set exactly one of full, lora; got {', '.join(chosen) or 'none'}")
        return self

    @property
    def name(self) -> str:
        """The method that is set: `full` or `lora`."""
        return "full" if self.full is not None else "lora"
