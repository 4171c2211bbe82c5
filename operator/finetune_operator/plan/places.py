"""The places that a job reads, as its spec names them."""

from typing import Any

from finetune_api.fine_tune_job import FineTuneJobSpec

MODEL_VERSION = "modelversion://"


def read_places(spec: FineTuneJobSpec) -> list[tuple[str, str]]:
    """Field and URI of each."""
    data, distillation = spec.dataset, spec.training.distillation
    places = [("spec.model.source", source) for source in spec.model.sources]
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    places += [(f"spec.dataset.{name}.source", part.source) for name, part in parts.items() if part]
    if data.augmentation and data.augmentation.text and data.augmentation.text.synonyms:
        places.append(("spec.dataset.augmentation.text.synonyms.source", data.augmentation.text.synonyms.source))
    if distillation:
        places.append(("spec.training.distillation.teacher", distillation.teacher))
    rewards = spec.training.reinforcement.rewards if spec.training.reinforcement else []
    path = "spec.training.reinforcement.rewards"
    places += [(f"{path}[{n}].model.source", reward.model.source) for n, reward in enumerate(rewards) if reward.model]
    return places


def named_versions(spec: dict[str, Any]) -> list[str]:
    """Names of the ModelVersions that a spec, not yet validated, reads."""
    training = spec.get("training")
    distillation = training.get("distillation") if isinstance(training, dict) else None
    places = [(spec.get("model"), "source"), (distillation, "teacher"), *_reward_models(training)]
    named = [place.get(field) for place, field in places if isinstance(place, dict)]
    return [uri.removeprefix(MODEL_VERSION) for uri in named if isinstance(uri, str) and uri.startswith(MODEL_VERSION)]


def _reward_models(training: Any) -> list[tuple[Any, str]]:
    reinforcement = training.get("reinforcement") if isinstance(training, dict) else None
    rewards = reinforcement.get("rewards") if isinstance(reinforcement, dict) else None
    return (
        [(one.get("model"), "source") for one in rewards if isinstance(one, dict)] if isinstance(rewards, list) else []
    )
