"""How one model is trained by many processes: a copy each, or shards of weights, gradients and optimizer state."""
