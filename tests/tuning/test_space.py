"""What may be searched, and how a trial's value is written into a selector."""

from __future__ import annotations

import pytest
from optuna.trial import FixedTrial

from ecgbench.core.errors import EcgbenchError
from ecgbench.registry.catalog import discover
from ecgbench.runs.suite import parse_eps
from ecgbench.tuning.question import Question
from ecgbench.tuning.space import Dimension, parse_dimension
from ecgbench_plugins.models.lstm import Recurrent

CATALOG = discover()
VALUES = {
    "model": CATALOG.resolve("model", "lstm"),
    "defense": CATALOG.resolve("defense", "none"),
    "attack": CATALOG.resolve("attack", "ista"),
}


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("model.hidden=32..128:pow2", Dimension("model", "hidden", low=32, high=128, whole=True, scale="pow2")),
        ("model.dense=16..256", Dimension("model", "dense", low=16, high=256, whole=True)),
        ("defense.lr=1e-5..0.1:log", Dimension("defense", "lr", low=1e-5, high=0.1, scale="log")),
        ("attack.kappa=0..2", Dimension("attack", "kappa", low=0, high=2)),
        ("model.activation = tanh | relu", Dimension("model", "activation", choices=("tanh", "relu"))),
        ("attack.stop_at_first=true|false", Dimension("attack", "stop_at_first", choices=("true", "false"))),
        ("defense.lr=0.1|0.2", Dimension("defense", "lr", choices=("0.1", "0.2"))),
    ],
)
def test_ranges_and_choices_are_read_by_the_type_of_their_field(text: str, dimension: Dimension) -> None:
    assert parse_dimension(text, VALUES) == dimension


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model.hidden", "expected KIND.FIELD=LOW..HIGH or KIND.FIELD=WORD|WORD"),
        ("threat.eps=0..1", "no kind to search is named 'threat'"),
        ("model.hiden=1..2", "no parameter of the model is named 'hiden'"),
        ("model.hidden=1.5..3", "expected whole numbers"),
        ("model.hidden=24..128:pow2", "expected powers of two"),
        ("defense.lr=0..1:log", "above 0 beside :log"),
        ("defense.lr=1..1", "expected finite LOW below HIGH"),
        ("defense.lr=a..b", "expected two numbers"),
        ("defense.lr=-1e308..1e308", "expected finite LOW below HIGH."),
        ("defense.lr=..1", "--search 'defense.lr=..1' given; '..1' is no value: expected LOW..HIGH"),
        ("defense.lr=1..", "'1..' is no value"),
        ("defense.lr=1..2:", "'1..2:' is no value"),
        ("defense.lr=0..1:cube", "no scale of a range is named 'cube'"),
        ("model.activation=0..1", "holds no number"),
        ("attack.stop_at_first=0..1", "holds no number"),
        ("model.activation=tanh|tanh", "expected different words"),
        ("model.activation=tanh|", "expected different words"),
        ("model.activation=tanh|sigmoid", "no value of model.activation is named 'sigmoid'; known: relu, tanh"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_sentence(text: str, fault: str) -> None:
    with pytest.raises(EcgbenchError) as refused:
        parse_dimension(text, VALUES)
    assert fault in str(refused.value)


def test_values_are_written_into_the_selectors_that_stay() -> None:
    question = Question(
        model="lstm[hidden=8]",
        search=("model.hidden=4..16:pow2", "model.dropout=0..0.5", "defense.optimizer=adam|adamax"),
        objective="loss",
        dataset="synthetic-icu[stays=200]",
    )
    drawn = {"model.hidden (log2)": 4, "model.dropout": 0.25, "defense.optimizer": "adam"}
    selectors = question.suggested(FixedTrial(drawn), CATALOG)
    assert selectors == {
        "model": "lstm[hidden=16,dropout=0.25]",
        "defense": "none[optimizer=adam]",
        "attack": "identity",
    }
    cell = question.cell(selectors, CATALOG)
    assert cell.protocol.split == "val" and isinstance(cell.model, Recurrent)
    assert (cell.model.hidden, cell.model.dropout) == (16, 0.25)
    command = question.command(cell, CATALOG)
    assert command[command.index("--model") + 1] == "lstm[dropout=0.25,hidden=16]"
    assert command[command.index("--attack") + 1] == "identity"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"search": ()}, "nothing to search given"),
        ({"objective": f"fewer-than-{'9' * 5000}"}, "no objective is named"),
        ({"objective": "accuracy"}, "no objective is named 'accuracy'"),
        ({"objective": "sparsity"}, "expected --attack"),
        ({"objective": "sparsity", "attack": "ista", "folds": 5}, "folds are of a training"),
        ({"search": ("model.dropout=0..1", "model.dropout=0..1")}, "model.dropout is searched twice"),
        ({"search": ("attack.step=0..1",), "attack": "ista"}, "objective loss attacks nobody"),
    ],
)
def test_questions_without_an_answer_are_refused(changes: dict[str, object], fault: str) -> None:
    given = {"model": "lstm", "search": ("model.dropout=0..0.5",), "objective": "loss", **changes}
    with pytest.raises(EcgbenchError) as refused:
        Question(**given).dimensions(CATALOG)  # type: ignore[arg-type]
    assert fault in str(refused.value)


def test_an_attack_may_be_searched_for_successes_with_fewer_than_so_many_changes() -> None:
    search = ("attack.step=0.1..1",)
    question = Question(model="lstm", search=search, objective="fewer-than-50", attack="ista")
    assert question.dimensions(CATALOG) == (Dimension("attack", "step", low=0.1, high=1),)


def test_the_command_has_the_sizes_of_the_ball_to_the_last_digit() -> None:
    question = Question(model="lstm", search=("model.dropout=0..0.5",), objective="loss", eps=(8 / 255, 1.0))
    command = question.command(
        question.cell({"model": "lstm", "defense": "none", "attack": "identity"}, CATALOG), CATALOG
    )
    assert parse_eps(command[command.index("--eps") + 1].split(",")) == question.eps


def test_the_command_takes_as_many_samples_as_the_trials_did() -> None:
    question = Question(model="lstm", search=("model.dropout=0..0.5",), objective="loss", limit=30)
    cell = question.cell({"model": "lstm", "defense": "none", "attack": "identity"}, CATALOG)
    command = question.command(cell, CATALOG)
    assert command[command.index("--limit") + 1] == "30"
