"""The inference server that serves a ModelVersion."""
