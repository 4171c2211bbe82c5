"""What the models and the CRD's rules say of a FineTuneJob."""

from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from finetune_api.crds import custom_resource_definitions
from finetune_api.errors import field_errors
from finetune_local.apiserver.cel_rules import check_rules, compile_rules
from finetune_local.apiserver.defaulting import apply_defaults
from finetune_local.apiserver.schema import SchemaCompiler


def by_the_model(model: type[BaseModel], body: dict[str, Any]) -> list[str]:
    """The errors of `body`, as users read them."""
    try:
        model.model_validate(body)
    except ValidationError as error:
        return [str(problem) for problem in field_errors(error, model)]
    return []


def by_the_crd(body: dict[str, Any]) -> list[str]:
    """What an API server without webhooks says of a FineTuneJob, whose defaults are put into `body`."""
    apply_defaults(_schema(), body)
    return [cause.message for cause in check_rules(_schema(), body)]


@cache
def _schema() -> Any:
    definition = next(d for d in custom_resource_definitions() if d["spec"]["names"]["kind"] == "FineTuneJob")
    schema = SchemaCompiler().compile(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    compile_rules(schema)
    return schema
