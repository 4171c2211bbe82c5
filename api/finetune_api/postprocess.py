"""What is done to a model after training: a chain of steps, each of which makes an artifact of its own."""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from finetune_api.averaging import Average
from finetune_api.base import Schema, rule, schema_with
from finetune_api.evaluation import Gate
from finetune_api.method import Method
from finetune_api.method_support import SUPPORT
from finetune_api.metrics import Task
from finetune_api.pruning import Prune, pruning_problems
from finetune_api.training import Checkpoint
from finetune_api.unknown import the_one

ArtifactFormat = Literal["Full", "Adapter", "Quantized", "Onnx", "Tflite"]
KINDS = ("average", "merge", "prune", "quantize", "onnx", "tflite")
"""Names on the wire; a step sets exactly one."""
ONE_OF = f"set exactly one of {', '.join(KINDS)}"
MAX_STEPS = 4
"""Their results must fit into one termination message."""
ONNX_WRITERS: tuple[Task, ...] = ("PreferenceOptimization", "ReinforcementLearning", "TextGeneration")
"""Tasks whose graph takes and gives the keys and values of the tokens before."""
TFLITE_TASKS: tuple[Task, ...] = (
    "ImageClassification",
    "QuestionAnswering",
    "TextClassification",
    "TokenClassification",
)
MAKES: dict[str, ArtifactFormat] = {
    "average": "Full",
    "merge": "Full",
    "prune": "Full",
    "quantize": "Quantized",
    "onnx": "Onnx",
    "tflite": "Tflite",
}


class Merge(Schema):
    """Add the adapter to its base model: a whole model, which needs no base beside it.

    The 4-bit base of qlora is widened to float32 first, so that nothing is rounded a second time.
    """


FOUR_BITS = ("Int4WeightOnly", "Int4Gptq", "Int4Awq")
"""Schemes of groups of weights that share a scale."""
CALIBRATED = ("Int4Gptq", "Int4Awq")
"""Schemes that look at data."""
GROUP_SIZE_IS_FOR = f"groupSize is for {', '.join(FOUR_BITS)}: 8 bits have a scale for each row; remove it"
EXAMPLES_ARE_FOR = (
    f"calibrationExamples is for {' and '.join(CALIBRATED)}: the other schemes look at no data; remove it"
)


class Quantize(Schema):
    """Hold the weights of the linear layers in 8 bits, by torchao, or in 4, as compressed-tensors packs them."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule(f"!has(self.groupSize) || self.scheme in [{', '.join(map(repr, FOUR_BITS))}]", GROUP_SIZE_IS_FOR),
            rule(
                f"!has(self.calibrationExamples) || self.scheme in [{', '.join(map(repr, CALIBRATED))}]",
                EXAMPLES_ARE_FOR,
            ),
        ]
    )
    scheme: Literal["Int8Dynamic", "Int8WeightOnly", "Int4WeightOnly", "Int4Gptq", "Int4Awq"] = Field(
        "Int8Dynamic",
        description="Int8Dynamic computes in 8 bits too, which is faster; Int8WeightOnly is more exact, only smaller. "
        "Int4WeightOnly rounds to the nearest of 16 values; Int4Gptq makes up for each rounding in the weights that "
        "are still to be rounded, so that outputs on training examples change least (GPTQ, Frantar et al. 2022, "
        "arXiv:2210.17323); Int4Awq rounds in finer steps what is multiplied with great inputs (AWQ, Lin et al. 2023, "
        "arXiv:2306.00978), for Llama, Mistral and Qwen.",
    )
    group_size: Literal[32, 64, 128] | None = Field(
        None, description="Weights that share a scale, of the 4-bit schemes. Fewer are more exact. Default 128."
    )
    calibration_examples: int | None = Field(
        None, ge=1, le=4096, description="Training examples that Int4Gptq and Int4Awq look at. Default 128."
    )

    @model_validator(mode="after")
    def fields_of_the_scheme(self) -> "Quantize":
        if self.group_size is not None and self.scheme not in FOUR_BITS:
            raise ValueError(GROUP_SIZE_IS_FOR)
        if self.calibration_examples is not None and self.scheme not in CALIBRATED:
            raise ValueError(EXAMPLES_ARE_FOR)
        return self


class Onnx(Schema):
    """Convert to ONNX, and check with onnxruntime that it answers as before."""

    tolerance: float = Field(1e-3, gt=0, le=1, description="Greatest difference of a logit that is accepted.")


class Tflite(Schema):
    """Convert to LiteRT (.tflite), for phones and other small machines, and check that it answers as before.

    The file takes one example of a fixed size: texts are padded to `dataset.maxLength`.
    """

    tolerance: float = Field(1e-3, gt=0, le=1, description="Greatest difference of a logit that is accepted.")


class PostprocessStep(Schema):
    """One step. Its artifact is `OUTPUT-NAME`, evaluated on the same held-out data as the trained model."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule(f"[{', '.join(f'has(self.{kind})' for kind in KINDS)}].exists_one(chosen, chosen)", ONE_OF),
        ]
    )
    name: str | None = Field(
        None,
        max_length=20,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="Of the artifact. Default: the kind of the step.",
    )
    average: Average | None = None
    merge: Merge | None = None
    prune: Prune | None = None
    quantize: Quantize | None = None
    onnx: Onnx | None = None
    tflite: Tflite | None = None
    gate: list[Gate] = Field(
        default_factory=list, max_length=8, description="What the result of this very step must reach."
    )

    @model_validator(mode="after")
    def exactly_one(self) -> "PostprocessStep":
        if len(self._chosen) != 1:
            raise ValueError(f"{ONE_OF}; got {', '.join(self._chosen) or 'none'}")
        return self

    @property
    def _chosen(self) -> list[str]:
        return [kind for kind in KINDS if getattr(self, kind) is not None]

    @property
    def kind(self) -> str:
        """The step that is set, as on the wire."""
        return the_one(self._chosen)

    @property
    def title(self) -> str:
        """Name of the step and of its artifact."""
        return self.name or self.kind


class PostprocessedArtifact(Schema):
    """What a step of postprocess made, in the status of the job."""

    model_config = ConfigDict(extra="ignore")

    name: str
    """Of the step."""
    uri: str
    """Its folder."""
    digest: str = Field(description="sha256 of the manifest, which holds the sha256 of every file.")
    format: ArtifactFormat = "Full"
    """Quantized, Onnx and Tflite ones can be served, but not trained further."""
    metrics: dict[str, float] | None = None
    """On held-out data."""


def artifact_uri(output: str, step: str) -> str:
    """Where the artifact of a step goes, beside that of the training."""
    return f"{output}-{step}"


def step_problems(steps: Sequence[PostprocessStep], method: Method, task: Task) -> Iterator[str]:
    """Why a chain cannot work, before anything is started: the step, the reason and the mend."""
    format: ArtifactFormat = "Adapter" if method.makes_adapter else "Full"
    names: set[str] = set()
    for place, step in enumerate(steps):
        path = f"postprocess[{place}]"
        if step.title in names:
            yield f"{path}.name: there are two steps {step.title!r}; name one of them otherwise"
        names.add(step.title)
        if step.average and place:
            yield f"{path}.average: averages what the training saved, not what a step has made of it; put it first"
        elif reason := _refusal(step.kind, format, method.name, task):
            yield f"{path}.{step.kind}: {reason}"
        elif step.prune:
            yield from (f"{path}.prune: {problem}" for problem in pruning_problems(step.prune, task))
        format = MAKES[step.kind]


def averaging_problems(steps: Sequence[PostprocessStep], checkpoint: Checkpoint) -> Iterator[str]:
    """What averaging asks of the checkpoints: those taken by the clock are others in each run."""
    for place, step in enumerate(steps):
        if step.average and step.average.of_checkpoints and checkpoint.every_steps is None:
            yield (
                f"postprocess[{place}].average: which checkpoints there are is left to the clock; set "
                "checkpoint.everySteps in place of everyMinutes"
            )


def _refusal(kind: str, before: ArtifactFormat, method: str, task: Task) -> str | None:
    """Why the step cannot follow what comes before it."""
    if kind == "merge":
        return _no_merge(before, method)
    if kind == "average":
        return _no_merge(before, method) if before == "Adapter" else None
    if before == "Adapter":
        mend = _no_merge(before, method)
        return f"needs whole weights, and method.{method} makes an adapter; " + (
            "use lora or full" if mend else "put merge before it"
        )
    if before != "Full":
        return f"needs float weights, and the step before makes the format {before}; put it last"
    if kind == "onnx" and task == "MultiTask":
        return "a graph with several heads cannot be made yet; remove it, or set quantize"
    if kind == "tflite" and task not in TFLITE_TASKS:
        return f"is for {', '.join(TFLITE_TASKS)}, not {task}; remove it"
    return None


def _no_merge(before: ArtifactFormat, method: str) -> str | None:
    if method == "full" or before != "Adapter":
        return "there is no adapter to merge; remove it"
    if method != "qlora" and SUPPORT[method].served != "Merged":
        return (
            f"what method.{method} learns is no part of a weight, so it stays beside its base; use lora, or remove it"
        )
    return None
