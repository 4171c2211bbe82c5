"""The command `finetune-operator`, one module a subcommand."""
