"""Keeps the libraries' own progress bars and notices out of the training log."""

import warnings

import transformers


def quiet_libraries() -> None:
    """Errors still show. Missing weights, which transformers only prints, are checked by `models.load`."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft")
    # AdaLoRA leaves layers with rank 0, and PEFT takes that for lost weights; the export is read back and compared.
    warnings.filterwarnings("ignore", message=r".*LoRA tensor\(s\) have invalid shape")
    warnings.filterwarnings("ignore", message=r"The following rank_pattern keys did not match")
