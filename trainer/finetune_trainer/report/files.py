"""Writes everything that a person reads beside the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.data.trained_on import TRAINED_ON_FILE, TrainedOn
from finetune_trainer.report.model_card import CARD_FILE, CardFacts, model_card
from finetune_trainer.report.plots import write_plots

EVALUATION_FILE = "evaluation.json"
DATA_REPORT_FILE = "data_report.json"
HISTORY_FILE = "training_history.json"


@dataclass(frozen=True)
class ReportContext:
    """What the reports of every artifact of one run have in common."""

    config: TrainerConfig
    data_report: Mapping[str, Any]
    history: Mapping[str, Any]
    versions: Mapping[str, str]
    trained_on: TrainedOn


def write_reports(
    folder: Path, context: ReportContext, evaluation: Mapping[str, Any], library: str, changes: Sequence[str] = ()
) -> None:
    """The JSON files of reports and of what was learnt from, plots/ and README.md; over what is there."""
    reports = {
        EVALUATION_FILE: evaluation,
        DATA_REPORT_FILE: context.data_report,
        HISTORY_FILE: context.history,
        TRAINED_ON_FILE: context.trained_on.wire(),
    }
    for name, report in reports.items():
        (folder / name).write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    facts = CardFacts(
        config=context.config,
        evaluation=evaluation,
        data_report=context.data_report,
        versions=context.versions,
        history=context.history,
        plots=write_plots(folder, evaluation, context.history),
        library=library,
        changes=changes,
    )
    (folder / CARD_FILE).write_text(model_card(facts), encoding="utf-8")
