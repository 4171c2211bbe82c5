"""Metrics of each task, from what all ranks saw."""
