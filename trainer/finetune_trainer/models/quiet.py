"""Keeps the libraries' own progress bars and notices out of the training log."""

import warnings

import transformers


def quiet_libraries() -> None:
    """Errors still show. Missing weights, which transformers only prints, are checked by `models.load`."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft")
