"""The data of a job: where it is, how it is split, which columns matter."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, field_validator, model_validator

from finetune_api.augmentation import AudioAugmentation, ImageAugmentation, TextAugmentation
from finetune_api.base import Schema, rule, schema_with
from finetune_api.data_preparation import Cleaning, Sampling, preparation_problems
from finetune_api.metrics import Task
from finetune_api.sources import Source

WITHOUT_LENGTH = ("ImageClassification", "ObjectDetection", "Recommendation")
"""Tasks whose examples are all equally long."""
COLUMNS_READ = {
    "TextClassification": {"text", "label"},
    "TextGeneration": {"text", "prompt", "completion", "messages", "instruction", "input", "output"},
    "TokenClassification": {"tokens", "tags", "text", "entities"},
    "Seq2Seq": {"prompt", "completion"},
    "ImageClassification": {"image", "label"},
    "ObjectDetection": {"image", "objects"},
    "AudioClassification": {"audio", "label"},
    "QuestionAnswering": {"question", "context", "answers"},
    "Recommendation": {"user", "item", "rating"},
    "RewardModeling": {"prompt", "chosen", "rejected"},
    "PreferenceOptimization": {"prompt", "chosen", "rejected", "completion", "label"},
    "ReinforcementLearning": {"prompt"},
}
"""Fields of `columns` that each task looks at; those of MultiTask are its subtasks'."""
IN_WINDOWS = ("TokenClassification", "QuestionAnswering", "MultiTask")
"""Tasks of which a model reads a long text in overlapping windows, where overLength is Split."""
WITHOUT_LABEL = "a piece need not have the class of the whole"
WITHOUT_PROMPT = "a piece of a completion does not answer its prompt"
UNSPLITTABLE = {
    "TextClassification": WITHOUT_LABEL,
    "AudioClassification": WITHOUT_LABEL,
    "Seq2Seq": "no part of the text to write belongs to a piece of the one to read",
    "RewardModeling": WITHOUT_PROMPT,
    "PreferenceOptimization": WITHOUT_PROMPT,
    "ReinforcementLearning": WITHOUT_PROMPT,
}
DEFAULT_LENGTHS = {"AudioClassification": 30_000}
"""Of `maxLength`, where it is not 512."""
DataFormat = Literal["Auto", "Jsonl", "Json", "Csv", "Parquet", "ClassFolders", "Coco"]
NO_ANNOTATIONS = "annotations is for the format Coco; remove it, or set format to Coco"
TextLayout = Literal["Auto", "Text", "PromptCompletion", "Messages", "Alpaca", "ShareGPT"]


class DataFile(Schema):
    """One file, or a folder of files of one format."""

    model_config = schema_with(
        x_kubernetes_validations=[rule("!has(self.annotations) || self.format in ['Auto', 'Coco']", NO_ANNOTATIONS)]
    )
    source: Source
    format: DataFormat = Field(
        "Auto",
        description="Auto goes by the file's ending: .jsonl, .csv or .parquet; a .json file is a list of rows (Json), "
        "COCO's annotations, or rows one a line, as it begins; folders of images or recordings are ClassFolders: "
        "CLASS/FILE; a folder with images and a .json file of annotations is Coco.",
    )
    annotations: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="Coco: the file of annotations in the folder, where it holds several: "
        "annotations/instances_train2017.json.",
    )

    @model_validator(mode="after")
    def annotations_are_coco(self) -> "DataFile":
        if self.annotations is not None and self.format not in ("Auto", "Coco"):
            raise ValueError(NO_ANNOTATIONS)
        return self


class Split(Schema):
    """Parts of `train` to hold out, as shares of the whole."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("self.validation + self.test < 1.0", "validation + test must leave something to train on"),
            rule(
                "!self.leaveOneOut || (self.validation == 0.0 && self.test == 0.0 && !has(self.stratifyBy) && "
                "!has(self.groupBy))",
                "leaveOneOut holds out by itself; remove validation, test, stratifyBy and groupBy",
            ),
        ]
    )
    validation: float = Field(0.0, ge=0, lt=1)
    """Share for evaluation during training."""
    test: float = Field(0.0, ge=0, lt=1)
    """Share for the final evaluation."""
    stratify_by: str | None = Field(
        None, max_length=128, description="Column whose values appear in the same proportion in every part."
    )
    group_by: str | None = Field(
        None,
        max_length=128,
        description="Column whose equal values stay in one part, such as a customer or a document.",
    )
    leave_one_out: bool = Field(
        False,
        description="For Recommendation: the last row of each user is for the test and the one before for validation, "
        "so sort the rows by time. Users with fewer than three rows are only trained on.",
    )
    seed: int = Field(0, ge=0, description="The same seed gives the same split.")

    @model_validator(mode="after")
    def leaves_something_to_train_on(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation ({self.validation:g}) + test ({self.test:g}) must be below 1; lower one of them"
            )
        if self.stratify_by and not self.validation and not self.test:
            raise ValueError("stratifyBy has nothing to divide: set validation or test")
        if self.group_by and not self.validation and not self.test and not self.leave_one_out:
            raise ValueError("groupBy has nothing to keep together: set validation or test")
        if self.leave_one_out and (self.validation or self.test or self.stratify_by or self.group_by):
            raise ValueError("leaveOneOut holds out by itself; remove validation, test, stratifyBy and groupBy")
        return self

    @property
    def cuts(self) -> bool:
        """Whether anything is held out."""
        return self.leave_one_out or self.validation + self.test > 0


class Columns(Schema):
    """Which column of the data holds what. Unset ones fall back to the usual names."""

    text: str | None = Field(None, max_length=128, description="Text to classify, to tag or to learn. Default: text.")
    label: str | None = Field(None, max_length=128, description="Class of a classification example. Default: label.")
    prompt: str | None = Field(None, max_length=128, description="Default: prompt.")
    completion: str | None = Field(None, max_length=128, description="Default: completion.")
    chosen: str | None = Field(None, max_length=128, description="The better completion. Default: chosen.")
    rejected: str | None = Field(None, max_length=128, description="The worse completion. Default: rejected.")
    messages: str | None = Field(
        None,
        max_length=128,
        description="Chat turns: {role, content}, or ShareGPT's {from, value}. Default: messages or conversations.",
    )
    instruction: str | None = Field(None, max_length=128, description="Alpaca's instruction. Default: instruction.")
    input: str | None = Field(None, max_length=128, description="What Alpaca's instruction is about. Default: input.")
    output: str | None = Field(None, max_length=128, description="Alpaca's answer. Default: output.")
    question: str | None = Field(None, max_length=128, description="Default: question.")
    context: str | None = Field(None, max_length=128, description="Text that holds the answer. Default: context.")
    answers: str | None = Field(
        None, max_length=128, description="Right answers, {text: [...], answer_start: [...]}. Default: answers."
    )
    image: str | None = Field(
        None, max_length=128, description="Path of an image, relative to the file that names it. Default: image."
    )
    objects: str | None = Field(
        None,
        max_length=128,
        description="What is on an image: each {bbox: [x, y, width, height] in pixels, category}. Default: objects.",
    )
    audio: str | None = Field(
        None, max_length=128, description="Path of a recording, relative to the file that names it. Default: audio."
    )
    user: str | None = Field(None, max_length=128, description="Who rates or uses an item. Default: user.")
    item: str | None = Field(None, max_length=128, description="What is rated or used. Default: item.")
    rating: str | None = Field(
        None, max_length=128, description="What the user thinks of the item, a number. Unset: rows are plain uses."
    )
    tokens: str | None = Field(None, max_length=128, description="Words of a text to tag. Default: tokens.")
    tags: str | None = Field(
        None, max_length=128, description="Tag of each word: O, B-TYPE or I-TYPE (BIOES too). Default: tags."
    )
    entities: str | None = Field(
        None, max_length=128, description="Spans of text, each {start, end, label}, in characters. Default: entities."
    )


class Augmentation(Schema):
    """Altered training examples; validation and test stay as they are."""

    text: TextAugmentation | None = None
    """Altered copies of texts."""
    audio: AudioAugmentation | None = None
    """Recordings, altered anew each time that they come."""
    image: ImageAugmentation | None = None
    """Images, altered anew each time that they come."""


HELD_OUT_RULES = [
    rule(
        "!has(self.split) || !has(self.validation) || self.split.validation == 0.0",
        "give validation or split.validation, not both",
    ),
    rule(
        "!has(self.split) || !has(self.test) || self.split.test == 0.0",
        "give test or split.test, not both",
    ),
    rule(
        "!has(self.split) || !self.split.leaveOneOut || (!has(self.validation) && !has(self.test))",
        "give validation and test, or split.leaveOneOut, not both",
    ),
]


class DataParts(Schema):
    """What is the same for the data of a job and of a subtask."""

    validation: DataFile | None = None
    test: DataFile | None = None
    split: Split | None = None
    columns: Columns = Field(default_factory=Columns)
    cleaning: Cleaning | None = None
    """What is mended and left out before the data is split."""
    augmentation: Augmentation | None = None
    """Altered examples to learn from."""

    @model_validator(mode="after")
    def held_out_data_comes_from_one_place(self) -> "DataParts":
        for part in ("validation", "test"):
            if getattr(self, part) and self.split and getattr(self.split, part) > 0:
                raise ValueError(f"{part} and split.{part} are both set; keep one of them")
            if getattr(self, part) and self.split and self.split.leave_one_out:
                raise ValueError(f"{part} and split.leaveOneOut are both set; keep one of them")
        return self

    @property
    def has_validation(self) -> bool:
        """Whether something is held out to watch the training by."""
        return bool(self.validation or (self.split and (self.split.validation > 0 or self.split.leave_one_out)))

    @property
    def has_test(self) -> bool:
        """Whether something is held out to judge the finished model by."""
        return bool(self.test or (self.split and (self.split.test > 0 or self.split.leave_one_out)))


SUBTASK_KINDS: tuple[Task, ...] = ("TextClassification", "TokenClassification", "QuestionAnswering")
NO_SUBTASK = (
    f"heads of several subtasks can share an encoder of texts: use {', '.join(SUBTASK_KINDS)}, or train the other "
    "task by a job of its own"
)
MAX_SUBTASKS = 8
"""Their metrics must fit into one termination message."""


class Subtask(DataParts):
    """One of the tasks that a model learns together, on data of its own."""

    model_config = schema_with(
        x_kubernetes_validations=[*HELD_OUT_RULES, rule(f"self.task in {list(SUBTASK_KINDS)}", NO_SUBTASK)]
    )
    name: str = Field(
        max_length=20,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="Of its head, in requests, and before its metrics: NAME/accuracy.",
    )
    task: Task = Field(description=f"One of {', '.join(SUBTASK_KINDS)}.")
    weight: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="Share of the examples of each step, relative to the other subtasks, whatever the size of its "
        "data. Set it for all or for none.",
    )
    train: DataFile

    @field_validator("task")
    @classmethod
    def has_a_head(cls, task: Task) -> Task:
        if task not in SUBTASK_KINDS:
            raise ValueError(NO_SUBTASK)
        return task


class Dataset(DataParts):
    """Training, validation and test data."""

    model_config = schema_with(
        x_kubernetes_validations=[
            *HELD_OUT_RULES,
            rule("has(self.train) != has(self.subtasks)", "give train, or subtasks for the task MultiTask"),
        ]
    )
    train: DataFile | None = Field(None, description="Required, but for MultiTask.")
    layout: TextLayout = Field(
        "Auto", description="TextGeneration: how a row holds its text. Auto goes by the columns of the first row."
    )
    learnt_turns: Literal["All", "Last"] = Field(
        "All",
        description="TextGeneration: which turns of the assistant are learnt. A turn with weight 0, or train false, is "
        "never learnt.",
    )
    sampling: Sampling | None = None
    """What to do about classes of different size."""
    max_length: int | None = Field(
        None,
        ge=8,
        le=1048576,
        description="Longest example: in tokens, or in milliseconds of a recording. Default: 512 tokens, 30000 ms.",
    )
    over_length: Literal["Error", "Drop", "Truncate", "Split"] = Field(
        "Error",
        description="What to do with an example longer than maxLength. Whatever happens is counted and reported. Split "
        "makes pieces of plain texts (TextGeneration), and overlapping windows, also in the server, of texts to tag or "
        "to find answers in. Held-out examples are never dropped: what is cut off counts as wrong.",
    )
    subtasks: list[Subtask] | None = Field(
        None,
        min_length=2,
        max_length=MAX_SUBTASKS,
        description="MultiTask: what is learnt together, each with data of its own in place of the fields above but "
        "maxLength and overLength.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    mixing_temperature: float | None = Field(
        None,
        ge=1,
        le=1000,
        description="MultiTask: subtasks without weights have shares as the sizes of their data to the power of "
        "1/mixingTemperature: 1 as they are, the higher the more alike. Default 1.",
    )

    @property
    def has_validation(self) -> bool:
        """Whether something is held out to watch the training by, of each subtask if there are some."""
        return all(s.has_validation for s in self.subtasks) if self.subtasks else super().has_validation

    @property
    def has_test(self) -> bool:
        """Whether something is held out to judge the finished model by, likewise."""
        return all(s.has_test for s in self.subtasks) if self.subtasks else super().has_test

    @property
    def has_held_out(self) -> bool:
        """Whether something is held out at all."""
        return self.has_validation or self.has_test

    def of(self, subtask: Subtask) -> "Dataset":
        """The data of one subtask, as that of a job."""
        parts = {name: getattr(subtask, name) for name in (*DataParts.model_fields, "train")}
        return Dataset(**parts, max_length=self.max_length, over_length=self.over_length)

    def problems_with(self, task: str) -> list[str]:
        """What does not go with the task."""
        augmented = self.augmentation.wire() if self.augmentation else {}
        problems = preparation_problems(task, self.cleaning, augmented, self.sampling)
        if self.layout != "Auto" and task != "TextGeneration":
            problems.append(f"dataset.layout is for TextGeneration, not {task}; remove it")
        if self.learnt_turns != "All" and (task != "TextGeneration" or self.layout in ("Text", "PromptCompletion")):
            problems.append("dataset.learntTurns is for chats (TextGeneration with turns of an assistant); remove it")
        unread = sorted(self.columns.wire().keys() - COLUMNS_READ[task]) if task in COLUMNS_READ else []
        problems += [f"dataset.columns.{name}: {task} reads no such column; remove it" for name in unread]
        if task in WITHOUT_LENGTH and (self.max_length is not None or self.over_length != "Error"):
            problems.append(f"dataset.maxLength and overLength: the examples of {task} have no length; remove them")
        problems += self._split_problems(task)
        if self.split and self.split.leave_one_out and task != "Recommendation":
            problems.append(f"dataset.split.leaveOneOut is for Recommendation, not {task}; set validation and test")
        return problems

    def _split_problems(self, task: str) -> Iterator[str]:
        if self.over_length != "Split" or task in WITHOUT_LENGTH:
            return
        for kind in [str(subtask.task) for subtask in self.subtasks or ()] or [task]:
            if reason := UNSPLITTABLE.get(kind):
                yield f"dataset.overLength: Split is not for {kind}: {reason}; set Drop or Truncate"
        if self.layout in ("Messages", "ShareGPT") or self.columns.messages:
            yield (
                "dataset.overLength: Split is for plain texts: a piece of a chat would be an answer without its "
                "question; set Drop or Truncate"
            )

    def longest(self, task: str) -> int:
        """`max_length`, or the task's default."""
        return self.max_length or DEFAULT_LENGTHS.get(task, 512)
