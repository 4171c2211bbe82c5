"""A small controller runtime in client-go's vocabulary; it knows nothing of fine-tuning."""
