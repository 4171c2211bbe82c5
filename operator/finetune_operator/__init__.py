"""The control plane of finetune-operator."""
