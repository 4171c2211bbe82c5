"""Learning from rewards for what the model itself writes."""
