"""`finetune-operator`: the control plane and its tools."""

import click

from finetune_operator.cli.crds import crds
from finetune_operator.cli.local import local
from finetune_operator.cli.run import run
from finetune_operator.cli.validate import validate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="finetune-operator")
def main() -> None:
    """Fine-tune models on Kubernetes: one FineTuneJob from data to a served model."""


for command in (run, crds, validate, local):
    main.add_command(command)
