"""Open Inference Protocol v2 (KServe) for every task that answers without generating.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from finetune_serving.batching import Batcher
from finetune_serving.compute import SerialThread
from finetune_serving.errors import bad_request
from finetune_serving.prediction import BadInput, InputTooLong, Predictor, Row
from finetune_serving.served_names import FILE_INPUTS, check_model
from finetune_serving.settings import ModelSource
from finetune_serving.whole_text import WholeText, whole_text

MAX_ROWS = 1024
MAX_FILES = 64
"""Values where each is a file: some bytes may become megabytes of numbers."""


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

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferParameters(BaseModel):
    """`truncate` cuts inputs that are too long, instead of refusing them; `subtask` chooses a head of a multi-task
    model."""

    model_config = ConfigDict(extra="ignore")

    truncate: bool = False
    subtask: str | None = None


class InferRequest(BaseModel):
    """Body of …/infer."""

    model_config = ConfigDict(extra="forbid")

    id: WholeText | None = None
    inputs: list[InferInput]
    outputs: list[InferOutputRequest] | None = None
    parameters: InferParameters = InferParameters()


class PredictionService:
    """Values in, predictions out: tokenizer thread, batcher, model thread."""

    def __init__(self, predictor: Predictor, batcher: Batcher[Any, Any], encoding: SerialThread) -> None:
        self.predictor = predictor
        self._batcher = batcher
        self._encoding = encoding

    async def predict(self, rows: list[Row], truncate: bool) -> list[Any]:
        try:
            encodings = await self._encoding.run(self.predictor.encode, rows, truncate)
        except InputTooLong as error:
            raise bad_request(
                f"inputs[0].data[{error.index}]",
                f"{error}; shorten it or send parameters.truncate=true",
                error.code,
            ) from error
        except BadInput as error:
            place = self.predictor.inputs.index(error.name)
            raise bad_request(f"inputs[{place}].data[{error.index}]", str(error)) from error
        return await self._batcher.submit(encodings)


def rows_of(request: InferRequest, names: tuple[str, ...]) -> list[Row]:
    """One value of each input tensor a row. Raises RequestError naming the field that is wrong."""
    tensors = {tensor.name: (place, tensor) for place, tensor in enumerate(request.inputs)}
    if len(request.inputs) != len(names) or set(tensors) != set(names):
        got = ", ".join(repr(tensor.name) for tensor in request.inputs) or "none"
        wanted = " and ".join(repr(name) for name in names)
        how = "exactly one input named" if len(names) == 1 else "the inputs"
        raise bad_request("inputs", f"send {how} {wanted}; got {got}")
    columns = {name: _values(*tensors[name]) for name in names}
    counts = {name: len(values) for name, values in columns.items()}
    if len(set(counts.values())) > 1:
        raise bad_request("inputs", f"have different numbers of values: {counts}; send one of each for every row")
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _values(place: int, tensor: InferInput) -> list[str]:
    field = f"inputs[{place}]"
    if tensor.datatype != "BYTES":
        raise bad_request(f"{field}.datatype", f"must be BYTES; got {tensor.datatype!r}")
    if "binary_data_size" in tensor.parameters:
        raise bad_request(f"{field}.parameters", "binary tensors are not supported; send JSON data")
    data = _flat(tensor.data)
    if len(tensor.shape) == 2 and tensor.shape[1] != 1:
        raise bad_request(f"{field}.shape", f"must be [n] or [n, 1]; got {tensor.shape}")
    if tensor.shape[0] != len(data):
        raise bad_request(f"{field}.shape", f"says {tensor.shape[0]} values, data has {len(data)}; make them equal")
    most = MAX_FILES if tensor.name in FILE_INPUTS else MAX_ROWS
    if not 1 <= len(data) <= most:
        raise bad_request(f"{field}.data", f"must hold 1 to {most} values; got {len(data)}")
    for index, value in enumerate(data):
        if not isinstance(value, str):
            raise bad_request(f"{field}.data[{index}]", f"must be a string; got {repr(value)[:80]}")
        try:
            whole_text(value)
        except ValueError as error:
            raise bad_request(f"{field}.data[{index}]", str(error)) from error
    return data


def _flat(data: list[Any]) -> list[Any]:
    return [value for row in data for value in (row if isinstance(row, list) else [row])]


def infer_response(
    source: ModelSource, predictor: Predictor, request: InferRequest, predictions: list[Any]
) -> dict[str, Any]:
    """The outputs that were asked for; all of them when none was."""
    outputs = predictor.outputs(predictions)
    response: dict[str, Any] = {"model_name": source.name, "model_version": source.version}
    if request.id is not None:
        response["id"] = request.id
    wanted = [output.name for output in request.outputs] if request.outputs else list(outputs)
    return response | {"outputs": [{"name": name, **outputs[name]} for name in wanted]}


def check_outputs(request: InferRequest, known: list[str]) -> None:
    """400 for an output that the model does not have."""
    for place, output in enumerate(request.outputs or []):
        if output.name not in known:
            raise bad_request(f"outputs[{place}].name", f"must be one of {', '.join(known)}; got {output.name!r}")


def tensor_metadata(predictor: Predictor) -> dict[str, Any]:
    """Inputs and outputs, with -1 for the number of rows."""
    outputs = [
        {"name": name, **{key: value for key, value in tensor.items() if key != "data"}, "shape": [-1, *shape[1:]]}
        for name, tensor in predictor.outputs([]).items()
        for shape in [tensor["shape"]]
    ]
    return {
        "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in predictor.inputs],
        "outputs": outputs,
    }


def inference_router(source: ModelSource, chosen: Callable[[InferRequest], PredictionService]) -> APIRouter:
    """…/infer of the one model and version that is served, by the service that is `chosen` for a request."""
    router = APIRouter(tags=["Open Inference Protocol"])

    @router.post("/v2/models/{name}/infer")
    @router.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: InferRequest, name: str, version: str | None = None) -> dict[str, Any]:
        check_model(source, name, version)
        service = chosen(request)
        predictor = service.predictor
        check_outputs(request, list(predictor.outputs([])))
        rows = rows_of(request, predictor.inputs)
        predictions = await service.predict(rows, request.parameters.truncate)
        return infer_response(source, predictor, request, predictions)

    return router
