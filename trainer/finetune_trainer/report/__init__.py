"""What a person reads beside a model: evaluation report, pictures, model card."""
