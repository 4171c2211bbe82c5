"""`python -m finetune_operator.cli`."""

from finetune_operator.cli.main import main

main()
