"""The model that a job starts from."""

from pydantic import Field

from finetune_api.base import Schema
from finetune_api.sources import Source


class ModelReference(Schema):
    """A pre-trained model in Hugging Face's folder layout."""

    source: Source
    revision: str | None = Field(
        None,
        max_length=128,
        description="Commit, tag or branch of an hf:// source. Default: the main branch.",
    )
    trust_remote_code: bool = Field(
        False,
        description="Run Python code that comes with the model. Leave it off for models you do not own.",
    )
