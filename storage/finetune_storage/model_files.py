"""Which files of a pre-trained model's folder are needed to load it."""

from finetune_storage.location import Storage

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken")


def model_patterns(storage: Storage, trust_remote_code: bool) -> list[str]:
    """For `Storage.fetch`: not the same weights again for other frameworks, which many repositories hold.

    The trainer and the server ask here, so that what was trained on can be served.
    """
    patterns = list(MODEL_FILES)
    if not any(entry.path.endswith(".safetensors") for entry in storage.files()):
        patterns.append("*.bin")
    if trust_remote_code:
        patterns.append("*.py")
    return patterns
