"""Users and items: read, held out, drawn beside each other, ranked, and refused when nothing is known of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from finetune_api.architecture import Architecture
from finetune_api.dataset import Columns, Dataset, Split
from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.metrics import metrics_of
from finetune_api.trainer_config import TrainerConfig
from finetune_serving.recommender import Catalogue, Recommender, RecommenderConfig, every_item
from finetune_trainer.data.draws import generator_of
from finetune_trainer.data.encoded import Encoded, encode
from finetune_trainer.data.examples import Example
from finetune_trainer.data.parts import Parts
from finetune_trainer.data.row import Row, Where
from finetune_trainer.data.split import split_examples
from finetune_trainer.errors import DataError
from finetune_trainer.metrics.recommendations import RankScores
from finetune_trainer.models.from_data import catalogue_of
from finetune_trainer.tasks.recommendation import Recommendation
from trainer.data.spooled import spooled
from trainer.jobs import FULL, job

FACTORS = Architecture.model_validate({"matrixFactorization": {"factors": 4}, "negatives": 3})
USES, RATINGS = Recommendation(Columns(), FACTORS), Recommendation(Columns(rating="stars"), FACTORS)


def example(user: str, item: str, line: int = 1, task: Recommendation = USES, **columns: Any) -> Example:
    return task.read(Row({"user": user, "item": item, **columns}, Where("uses.csv", line)))


def known(*pairs: tuple[str, str]) -> tuple[Catalogue, Encoded]:
    examples = [example(*pair) for pair in pairs]
    catalogue = catalogue_of([e.target for e in examples])
    return catalogue, encode(USES.encode(examples, catalogue, []))


def test_a_rating_is_a_number() -> None:
    assert example("ann", "tea", task=RATINGS, stars="4.5").target.rating == 4.5
    for wrong in ("good", None, True, "nan"):
        with pytest.raises(DataError, match=r"uses\.csv line 1: column 'stars' holds .*; a rating is a number"):
            example("ann", "tea", task=RATINGS, stars=wrong)


def test_a_catalogue_knows_what_everybody_has_had() -> None:
    catalogue, _ = known(("bob", "tea"), ("ann", "tea"), ("ann", "jam"), ("ann", "tea"))
    assert catalogue == Catalogue(["ann", "bob"], ["jam", "tea"], [[0, 1], [1]])


def test_leave_one_out_holds_out_the_last_rows_of_each_user() -> None:
    rows = [
        ("ann", "a"),
        ("bob", "a"),
        ("ann", "b"),
        ("bob", "b"),
        ("bob", "c"),
        ("ann", "c"),
        ("cy", "a"),
        ("cy", "b"),
    ]
    parts = split_examples(spooled(example(*pair) for pair in rows), Split.model_validate({"leaveOneOut": True}))
    assert [e.content for e in parts.test] == [["ann", "c"]], "bob's c would be in no training row"
    assert [e.content for e in parts.validation] == [["ann", "b"], ["bob", "b"]]
    assert [e.content for e in parts.train if e.content[0] == "cy"] == [["cy", "a"], ["cy", "b"]]
    with pytest.raises(DataError, match="no user has 3 rows"):
        split_examples(spooled([example("ann", "a")]), Split.model_validate({"leaveOneOut": True}))


@pytest.mark.parametrize(("pair", "says"), [(("cy", "a"), "the user 'cy'"), (("ann", "z"), "the item 'z'")])
def test_what_training_does_not_know_cannot_be_held_out(pair: tuple[str, str], says: str) -> None:
    with pytest.raises(DataError, match=rf"uses\.csv line 7: {says} is in no training row"):
        USES.labels(Parts([example("ann", "a")], [], [example(*pair, line=7)]))


def test_other_items_are_drawn_beside_each_and_the_same_after_a_resume() -> None:
    catalogue, encoded = known(*[("ann", f"{n}") for n in range(5)])
    collate = USES.altering_collator(catalogue)
    assert collate is not None

    def drawn(epoch: int) -> torch.Tensor:
        return collate(encoded, [[0], [3]], [generator_of(1, epoch, row) for row in (0, 3)]).inputs["items"]

    assert torch.equal(drawn(0), drawn(0))
    seen = torch.cat([drawn(epoch) for epoch in range(40)])
    assert seen.shape == (80, 4)
    assert (seen[:, :1] != seen[:, 1:]).all()
    assert set(seen[:, 1:].flatten().tolist()) == set(range(5))
    assert RATINGS.altering_collator(catalogue) is None


def test_a_rank_passes_over_what_the_user_has_had() -> None:
    catalogue, encoded = known(("ann", "a"), ("ann", "b"), ("bob", "c"), ("bob", "d"), ("bob", "e"))
    model = Recommender(RecommenderConfig(2, 5, 4)).eval()
    with torch.no_grad():
        for table in (model.users, model.items):
            table.weight.zero_()
        model.item_bias.weight.copy_(torch.tensor([[5.0], [4.0], [3.0], [9.0], [4.0]]))
        ranks = USES.predictions(model, USES.collator(catalogue)(encoded, [[0], [1]]))
    assert ranks.tolist() == [2.0, 2.5], "behind d alone; behind d, and level with e; a and b do not count"


def test_hits_and_gains_are_those_of_the_first_ten_or_as_many_as_are_asked_for() -> None:
    ranks = np.array([1.0, 3.0, 10.0, 11.0])
    metrics = RankScores(100, 10).evaluation(ranks, np.ones(4)).metrics
    assert metrics == {"hitRate10": 0.75, "ndcg10": pytest.approx((1 + 1 / 2 + 1 / np.log2(11)) / 4)}
    assert RankScores(100, 3).evaluation(ranks, np.ones(4)).metrics == {"hitRate3": 0.5, "ndcg3": 1.5 / 4}


def test_as_many_items_are_recommended_as_count() -> None:
    from finetune_api.artifact import ArtifactDescription
    from finetune_serving.loading import LoadedModel
    from finetune_serving.recommendation import ItemRecommender

    catalogue, _ = known(("ann", "a"), ("bob", "b"), ("bob", "c"), ("bob", "d"))
    model = Recommender(RecommenderConfig(2, 4, 4, recommended=2)).eval()
    loaded = LoadedModel(model, catalogue, ArtifactDescription(task="Recommendation", format="Full"), 1)
    (items,) = ItemRecommender(loaded).predict([0])
    assert len(items) == 2
    assert "a" not in {item["item"] for item in items}


def test_every_item_gets_the_score_of_its_pair() -> None:
    torch.manual_seed(0)
    model = Recommender(RecommenderConfig(3, 7, 4, [6, 4])).eval()
    users = torch.tensor([2, 0])
    pairs = torch.stack([model(users, torch.full((2, 1), item)).logits[:, 0] for item in range(7)], dim=1)
    assert torch.allclose(every_item(model, users), pairs)


def refused(tmp_path: Path, says: str, **changes: Any) -> None:
    settings: dict[str, Any] = {"architecture": FACTORS.wire(), "task": "Recommendation", "method": FULL, **changes}
    with pytest.raises(ValidationError, match=says):
        job(tmp_path, tmp_path, tmp_path, **settings)


def test_only_this_task_makes_its_model_from_the_data(tmp_path: Path) -> None:
    refused(tmp_path, "set model.architecture instead", architecture=None)
    refused(tmp_path, "model.architecture is for Recommendation, not TextClassification", task="TextClassification")
    refused(tmp_path, "lora does not go with Recommendation", method={"lora": {}})
    refused(tmp_path, "set exactly one of matrixFactorization", architecture={"negatives": 2})
    refused(tmp_path, "leaveOneOut holds out by itself", dataset={"split": {"leaveOneOut": True, "test": 0.1}})
    refused(tmp_path, "matrixFactorization multiplies no matrices", precision="BFloat16")
    network = {"neuralCollaborativeFiltering": {}}
    job(tmp_path, tmp_path, tmp_path, task="Recommendation", method=FULL, architecture=network, precision="BFloat16")
    config = job(tmp_path, tmp_path, tmp_path, task="Recommendation", method=FULL, architecture=FACTORS.wire()).wire()
    with pytest.raises(ValidationError, match="set source for a pre-trained model, or architecture"):
        TrainerConfig.model_validate({**config, "model": {}})


def test_ratings_and_uses_are_judged_by_metrics_of_their_own() -> None:
    assert metrics_of("Recommendation", rated=True) == ("rmse", "mae", "loss")
    assert metrics_of("Recommendation", rated=False) == ("hitRate10", "ndcg10")
    spec = {
        "model": {"architecture": FACTORS.wire()},
        "task": "Recommendation",
        "dataset": {"train": {"source": "s3://data/uses.csv"}, "split": {"leaveOneOut": True}},
        "method": FULL,
        "training": {"earlyStopping": {}},
    }
    with pytest.raises(ValidationError, match="Recommendation has no metric 'loss'; use one of hitRate10, ndcg10"):
        FineTuneJobSpec.model_validate(spec)
    watched = {**spec, "training": {"earlyStopping": {"metric": "ndcg5"}}, "evaluation": {"topK": 5}}
    assert FineTuneJobSpec.model_validate(watched).evaluation.top_k == 5
    high = {**watched, "evaluation": {"topK": 5, "gate": [{"metric": "hitRate5", "operator": ">", "value": 20}]}}
    with pytest.raises(ValidationError, match="hitRate5 lies between 0 and 1"):
        FineTuneJobSpec.model_validate(high)
    with pytest.raises(ValidationError, match=r"evaluation\.topK is for Recommendation, not TextClassification"):
        FineTuneJobSpec.model_validate({**watched, "task": "TextClassification"})


def test_leave_one_out_is_for_this_task() -> None:
    dataset = Dataset.model_validate({"train": {"source": "file:///d"}, "split": {"leaveOneOut": True}})
    assert not dataset.problems_with("Recommendation")
    [problem] = dataset.problems_with("TextClassification")
    assert problem.startswith("dataset.split.leaveOneOut is for Recommendation")
