"""Keeps the libraries' own progress bars and notices out of the training log."""

import os
import warnings

import transformers


def quiet_libraries(device: str) -> None:
    """Errors still show. Missing weights, which transformers only prints, are checked by `models.load`."""
    if device == "cpu":  # else DeepSpeed, which transformers imports to save a model, warns that it found no GPU
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft")
    # AdaLoRA leaves layers with rank 0, and PEFT takes that for lost weights; the export is read back and compared.
    warnings.filterwarnings("ignore", message=r".*LoRA tensor\(s\) have invalid shape")
    warnings.filterwarnings("ignore", message=r"The following rank_pattern keys did not match")
