"""Pre-trained models from a folder, checked before anything is trained."""
