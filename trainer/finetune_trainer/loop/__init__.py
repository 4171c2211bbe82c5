"""The training loop: one optimizer step after another, the same on one process and on many."""
