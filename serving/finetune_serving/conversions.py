"""Formats that other engines than PyTorch run."""

from pathlib import Path
from typing import Any

from finetune_api.artifact import ArtifactDescription
from finetune_api.postprocess import ONNX_WRITERS
from finetune_serving.onnx_model import OnnxModel
from finetune_serving.onnx_writer import OnnxSeq2Seq, OnnxWriter
from finetune_serving.tflite_model import TfliteModel

RUNTIMES = {"Onnx": "onnxruntime", "Tflite": "ai_edge_litert"}
"""The packages of the engines."""


def converted_model(about: ArtifactDescription, folder: Path, trust_remote_code: bool) -> Any:
    """A model of another engine from its files; None where PyTorch runs the format."""
    if about.format == "Onnx":
        kind = OnnxSeq2Seq if about.task == "Seq2Seq" else OnnxWriter if about.task in ONNX_WRITERS else OnnxModel
        return kind(folder, trust_remote_code)
    return TfliteModel(folder, trust_remote_code) if about.format == "Tflite" else None
