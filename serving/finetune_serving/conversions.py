"""Formats that other engines than PyTorch run."""

from finetune_serving.onnx_model import OnnxModel
from finetune_serving.tflite_model import TfliteModel

CONVERTED = {"Onnx": OnnxModel, "Tflite": TfliteModel}
RUNTIMES = {"Onnx": "onnxruntime", "Tflite": "ai_edge_litert"}
"""The packages of the engines."""
