"""From a trained model to an artifact that can be served: written, read back, compared, uploaded."""
