"""Open Inference Protocol v2 (KServe) for TextClassification.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from finetune_serving.batching import Batcher
from finetune_serving.classification import Classifier, Encoding, Prediction, TextTooLong
from finetune_serving.compute import SerialThread
from finetune_serving.errors import bad_request
from finetune_serving.served_names import TEXT_INPUT, check_model
from finetune_serving.settings import ModelSource

OUTPUTS = ("label", "scores")
MAX_TEXTS = 1024


class InferInput(BaseModel):
    """A tensor. Data may be flat or nested, as the protocol allows."""

    model_config = ConfigDict(extra="forbid")

    name: str
    shape: list[int] = Field(min_length=1, max_length=2)
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferOutputRequest(BaseModel):
    """An output that the client asks for."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["label", "scores"]
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferParameters(BaseModel):
    """`truncate` cuts texts that are too long, instead of refusing them."""

    model_config = ConfigDict(extra="ignore")

    truncate: bool = False


class InferRequest(BaseModel):
    """Body of …/infer."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = None
    inputs: list[InferInput]
    outputs: list[InferOutputRequest] | None = None
    parameters: InferParameters = InferParameters()


class ClassificationService:
    """Texts in, predictions out: tokenizer thread, batcher, model thread."""

    def __init__(
        self, classifier: Classifier, batcher: "Batcher[Encoding, Prediction]", tokenizing: SerialThread
    ) -> None:
        self.classifier = classifier
        self._batcher = batcher
        self._tokenizing = tokenizing

    async def classify(self, texts: list[str], truncate: bool) -> list[Prediction]:
        try:
            encodings = await self._tokenizing.run(self.classifier.encode, texts, truncate)
        except TextTooLong as error:
            raise bad_request(
                f"inputs[0].data[{error.index}]",
                f"{error.tokens} tokens, the model takes {error.limit}; shorten it or send parameters.truncate=true",
                "text_too_long",
            ) from error
        return await self._batcher.submit(encodings)


def texts_of(request: InferRequest) -> list[str]:
    """The texts of the one input tensor. Raises RequestError naming the field that is wrong."""
    if [tensor.name for tensor in request.inputs] != [TEXT_INPUT]:
        names = ", ".join(repr(tensor.name) for tensor in request.inputs) or "none"
        raise bad_request("inputs", f"send exactly one input named {TEXT_INPUT!r}; got {names}")
    tensor = request.inputs[0]
    if tensor.datatype != "BYTES":
        raise bad_request("inputs[0].datatype", f"must be BYTES; got {tensor.datatype!r}")
    if "binary_data_size" in tensor.parameters:
        raise bad_request("inputs[0].parameters", "binary tensors are not supported; send JSON data")
    data = _flat(tensor.data)
    if len(tensor.shape) == 2 and tensor.shape[1] != 1:
        raise bad_request("inputs[0].shape", f"must be [n] or [n, 1]; got {tensor.shape}")
    if tensor.shape[0] != len(data):
        raise bad_request("inputs[0].shape", f"says {tensor.shape[0]} texts, data has {len(data)}; make them equal")
    return _checked(data)


def _checked(data: list[Any]) -> list[str]:
    if not 1 <= len(data) <= MAX_TEXTS:
        raise bad_request("inputs[0].data", f"must hold 1 to {MAX_TEXTS} texts; got {len(data)}")
    for index, text in enumerate(data):
        if not isinstance(text, str):
            raise bad_request(f"inputs[0].data[{index}]", f"must be a string; got {text!r}")
    return data


def _flat(data: list[Any]) -> list[Any]:
    return [text for row in data for text in (row if isinstance(row, list) else [row])]


def infer_response(
    source: ModelSource, labels: list[str], request: InferRequest, predictions: list[Prediction]
) -> dict[str, Any]:
    """The outputs that were asked for; all of them when none was."""
    count = len(predictions)
    outputs: dict[str, dict[str, Any]] = {
        "label": {"datatype": "BYTES", "shape": [count], "data": [p.label for p in predictions]},
        "scores": {
            "datatype": "FP32",
            "shape": [count, len(labels)],
            "parameters": {"labels": labels},
            "data": [score for p in predictions for score in p.scores],
        },
    }
    wanted = [output.name for output in request.outputs] if request.outputs else OUTPUTS
    response: dict[str, Any] = {"model_name": source.name, "model_version": source.version}
    if request.id is not None:
        response["id"] = request.id
    return response | {"outputs": [{"name": name, **outputs[name]} for name in wanted]}


def inference_router(source: ModelSource, service: ClassificationService) -> APIRouter:
    """…/infer of the one model and version that is served."""
    router = APIRouter(tags=["Open Inference Protocol"])

    @router.post("/v2/models/{name}/infer")
    @router.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: InferRequest, name: str, version: str | None = None) -> dict[str, Any]:
        check_model(source, name, version)
        texts = texts_of(request)
        predictions = await service.classify(texts, request.parameters.truncate)
        return infer_response(source, service.classifier.labels, request, predictions)

    return router
