"""The trainer: what runs in every training pod."""
