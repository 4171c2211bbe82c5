"""What a step cannot do to a model is said before anything is trained."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from finetune_api.postprocess import PostprocessStep
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess.suitability import check_layers
from trainer import tiny_models


def quantized(scheme: str) -> list[PostprocessStep]:
    return [PostprocessStep.model_validate({"quantize": {"scheme": scheme}})]


def test_8_bits_that_could_not_be_read_again_are_refused(tmp_path: Path) -> None:
    """BART, Marian, Pegasus and their like have a bias of each token that is no layer's."""
    bart, t5 = (make(tmp_path / make.__name__) for make in (tiny_models.bart, tiny_models.t5))
    with torch.device("meta"):
        with_a_bias, without = (
            AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(one)) for one in (bart, t5)
        )
    for scheme in ("Int8Dynamic", "Int8WeightOnly"):
        with pytest.raises(ConfigurationError, match=r"quantize\.scheme: .*'bart' hold 'final_logits_bias' .*onnx"):
            check_layers(quantized(scheme), with_a_bias, ())
        check_layers(quantized(scheme), without, ())
