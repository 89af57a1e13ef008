"""A cell's keys change with everything that can change a number, stage by stage, and with nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from torch.nn import Module

from ecgbench.core.data import Task
from ecgbench.core.interfaces import Defense
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.evaluation.sweep import Protocol
from ecgbench.registry import identity as made
from ecgbench.registry.catalog import Catalog, discover
from ecgbench.registry.identity import HOST_CLASSES, class_name, class_named, code_digests, differences, identity
from ecgbench.runs.cell import (
    Cell,
    VictimIdentity,
    audit_identity,
    checks_identity,
    outcomes_identity,
    record_identity,
    victim_identity,
)
from ecgbench.storage.store import key_of
from ecgbench_plugins.attacks.identity import Identity
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.datasets.mitbih import MitBih
from ecgbench_plugins.datasets.synthetic_beats import SyntheticBeats
from ecgbench_plugins.defenses.adaptive import Adaptive
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.linear import LinearClassifier
from ecgbench_plugins.models.mlp import MLP

CELL = Cell(
    dataset=SyntheticBeats(),
    model=MLP(),
    defense=Adaptive(attack=PGD(steps=10), threat=Threat("linf")),
    attack=PGD(),
    threat=Threat("linf"),
    eps=(0.01, 0.1),
)
CATALOG = discover()


@dataclass(frozen=True)
class Tuned(Defense):
    """Starts from another defense's weights."""

    start: Defense = Standard()

    @property
    def base(self) -> Defense:
        return self.start

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        return model


@dataclass(frozen=True)
class Borrowed(Identity):
    """Needs a second victim."""

    teacher: Defense = Standard()

    @property
    def surrogate(self) -> Defense:
        return self.teacher


def attacked(cell: Cell, data: str = "d1") -> made.Identity:
    """What the outcomes of a cell are made of."""
    victim = VictimIdentity(victim_identity(cell.victim, data), "w1")
    second = None if cell.surrogate is None else VictimIdentity(victim_identity(cell.surrogate, data), "w2")
    return outcomes_identity(cell.setup, made.identity(cell.attack), victim, second)


def keys(cell: Cell, data: str = "d1", headline: float = 0.1) -> tuple[str, str, str]:
    """Of victim, outcomes and checks."""
    outcomes = key_of(attacked(cell, data))
    return (key_of(victim_identity(cell.victim, data)), outcomes, key_of(checks_identity(outcomes, headline)))


def changed(cell: Cell, data: str = "d1", headline: float = 0.1) -> str:
    """Initials of the stages whose key is not that of CELL."""
    pairs = zip("voc", keys(cell, data, headline), keys(CELL), strict=True)
    return "".join(stage for stage, now, then in pairs if now != then)


def variants(value: Any) -> Iterator[tuple[str, Any]]:
    """`value` with one parameter changed, for every parameter, nested ones too, that can be changed alone."""
    hints = get_type_hints(type(value))
    for field in fields(value):
        held = getattr(value, field.name)
        for name, other in _others(held, hints[field.name]):
            try:
                yield f"{field.name}{name}", replace(value, **{field.name: other})
            except Exception:  # refused by the plugin: this value does not exist
                continue


def _others(held: Any, hint: Any) -> Iterator[tuple[str, Any]]:
    if is_dataclass(held):
        yield from ((f".{name}", other) for name, other in variants(held))
    elif get_origin(hint) is Literal:
        yield from (("", choice) for choice in get_args(hint) if choice != held)
    elif isinstance(held, bool):
        yield "", not held
    elif isinstance(held, int | float):
        yield "", held + 1 if isinstance(held, int) else held / 2
    elif isinstance(held, tuple):
        yield "", (*held, held[0] if held else "N")
    else:
        yield "", 0.5 if hint == float | None else "N"


def test_variants_reach_every_parameter() -> None:
    reached = {name for name, _ in variants(CELL.defense)}
    own = {field.name for field in fields(Adaptive)} - {"attack", "threat"}
    nested = {f"attack.{field.name}" for field in fields(PGD)} | {f"threat.{field.name}" for field in fields(Threat)}
    assert reached == own | nested
    assert {name for name, _ in variants(Protocol())} == {"success", "sweep", "clean_wrong", "per_class", "split"}


@pytest.mark.parametrize(
    ("part", "stages"),
    [
        ("dataset", "voc"),
        ("model", "voc"),
        ("defense", "voc"),
        ("attack", "oc"),
        ("threat", "oc"),
        ("protocol", "oc"),
    ],
)
def test_every_parameter_counts_from_the_stage_on_that_it_is_part_of(part: str, stages: str) -> None:
    cells = {name: replace(CELL, **{part: other}) for name, other in variants(getattr(CELL, part))}
    assert cells and {name: changed(cell) for name, cell in cells.items()} == dict.fromkeys(cells, stages)
    assert len({keys(cell) for cell in cells.values()}) == len(cells)


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"seed": 1}, "voc"),
        ({"eps": (0.01, 0.1, 0.2)}, "oc"),
        ({"eps": (0.01, 0.1 + 2**-56)}, "oc"),
        ({"limit": 100}, "oc"),
        ({"dataset": MitBih()}, "voc"),
        ({"model": LinearClassifier()}, "voc"),
        ({"defense": Standard()}, "voc"),
        ({"attack": Identity()}, "oc"),
        ({}, ""),
    ],
    ids=str,
)
def test_seed_grid_limit_and_other_plugins_count(change: dict[str, Any], stages: str) -> None:
    assert changed(replace(CELL, **change)) == stages


def test_data_count_for_every_stage_and_the_headline_for_the_checks_alone() -> None:
    assert changed(CELL, data="d2") == "voc"
    assert changed(CELL, headline=0.01) == "c"
    record = record_identity("o1", "c1")
    assert len({key_of(each) for each in (record, record_identity("o2", "c1"), record_identity("o1", "c2"))}) == 3


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("attack", "pgd", "pgd[ steps = 40, rel_step = 1/10 ]"),
        ("attack", "pgd100", "pgd[steps=100]"),
        ("threat", "linf", "linf[mask=on,bounds=yes]"),
        ("defense", "adaptive", "adaptive[attack=pgd[rel_step=0.25,steps=10],eps=0.03]"),
        ("defense", "adaptive[eps=1/8]", "adaptive[eps=0.125]"),
        ("dataset", "synthetic-beats[beats=10000]", "synthetic-beats"),
        ("protocol", "standard", "standard[success=first]"),
    ],
)
def test_spellings_of_one_value_are_one_cell(kind: str, one: str, other: str) -> None:
    cells = [replace(CELL, **{kind: CATALOG.resolve(kind, text)}) for text in (one, other)]
    assert cells[0] == cells[1] and keys(cells[0]) == keys(cells[1])


def test_a_name_is_no_part_of_a_key() -> None:
    renamed = Catalog(CATALOG.datasets, CATALOG.models, {"mine": CATALOG.lookup("attack", "pgd")}, CATALOG.defenses)
    assert changed(replace(CELL, attack=renamed.resolve("attack", "mine"))) == ""


def test_a_base_is_part_of_the_victim_as_the_victim_that_it_is() -> None:
    tuned = replace(CELL, defense=Tuned(Standard(epochs=3)))
    made_of = victim_identity(tuned.victim, "d1")
    alone = replace(CELL, defense=Standard(epochs=3))
    assert key_of(made_of["base"]) == keys(alone)[0]
    assert keys(tuned)[0] != keys(replace(CELL, defense=Tuned(Standard(epochs=4))))[0]


def test_a_second_victim_is_part_of_the_outcomes_alone() -> None:
    cells = [replace(CELL, attack=Borrowed(Standard(epochs=epochs))) for epochs in (3, 4)]
    (victim, *ours), (same, *others) = (keys(cell) for cell in cells)
    assert victim == same and ours[0] != others[0]
    surrogate = attacked(cells[0])["surrogate"]
    assert key_of(surrogate) == keys(replace(CELL, defense=Standard(epochs=3)))[0]


def test_the_weights_of_every_victim_count() -> None:
    cell = replace(CELL, attack=Borrowed())
    one, two = (VictimIdentity({"stage": "victim"}, weights) for weights in ("w1", "w2"))
    made_of = [outcomes_identity(cell.setup, "attack", a, b) for a in (one, two) for b in (one, two)]
    assert len({key_of(each) for each in made_of}) == 4
    assert len({key_of(audit_identity("o1", 0.1, undefended)) for undefended in (one, two, None)}) == 3


def test_the_code_of_nested_values_counts() -> None:
    made_of = code_digests(Adaptive(attack=Identity()))
    assert {"ecgbench_plugins.defenses.adaptive", "ecgbench_plugins.attacks.identity"} <= set(made_of)
    assert "ecgbench_plugins.attacks.identity" not in code_digests(Adaptive())


def test_a_stage_counts_the_code_it_is_made_of_and_no_other() -> None:
    victim = victim_identity(replace(CELL, defense=Standard()).victim, "d1")["sources"]
    assert {"ecgbench.core.training", "ecgbench_plugins.models.mlp", "ecgbench_plugins.datasets.mcsharry"} <= set(
        victim
    )
    outcomes = attacked(CELL)["sources"]
    assert {"ecgbench.evaluation.sweep", "ecgbench.core.iteration", "ecgbench_plugins.attacks.pgd"} <= set(outcomes)
    for made_of in (victim, outcomes):
        assert not {
            "ecgbench.evaluation.metrics",
            "ecgbench.checks.cheap",
            "ecgbench.runs.runner",
            "ecgbench.storage.store",
        } & set(made_of)
    assert "ecgbench_plugins.attacks.pgd" not in victim and "ecgbench.core.training" not in outcomes
    assert "ecgbench.checks.cheap" in checks_identity("o", 0.1)["sources"]
    assert "ecgbench.evaluation.metrics" in record_identity("o", "c")["sources"]
    assert "ecgbench.checks.cheap" not in record_identity("o", "c")["sources"]


def classes(made_of: Any) -> Iterator[str]:
    """The names of all classes in an identity."""
    if isinstance(made_of, dict):
        yield from (value for name, value in made_of.items() if name == "class")
        yield from (found for value in made_of.values() for found in classes(value))
    elif isinstance(made_of, list):
        yield from (found for value in made_of for found in classes(value))


def test_classes_of_the_host_have_fixed_names_in_identities() -> None:
    assert {name: of.__name__ for name, of in HOST_CLASSES.items()} == {"Threat": "Threat", "Protocol": "Protocol"}
    assert all(class_name(of) == name and class_named(name) is of for name, of in HOST_CLASSES.items())
    values = [
        each.value for kind in ("datasets", "models", "attacks", "defenses") for each in getattr(CATALOG, kind).values()
    ]
    found = {name for value in (*values, CELL.threat, CELL.protocol) for name in classes(identity(value))}
    assert found > {"Threat", "Protocol", "ecgbench_plugins.attacks.pgd.PGD"}
    assert not [name for name in found if name.startswith("ecgbench.")]


def test_differences_are_told_a_line_each_by_their_place() -> None:
    then = {"seed": 0, "attack": {"steps": 40, "loss": "ce"}, "base": None, "sources": {"a.b": "1", "a.c": "2"}}
    now = {"seed": 1, "attack": {"steps": 41, "loss": "ce"}, "base": {"seed": 0}, "sources": {"a.b": "9", "a.d": "3"}}
    assert differences(now, then) == [
        "attack.steps: 41, was 40",
        "base: {'seed': 0}, was nothing",
        "seed: 1, was 0",
        "sources.a.b: changed",
        "sources.a.c: gone",
        "sources.a.d: added",
    ]
    assert differences({"victim": now}, {"victim": {**now, "sources": {}}})[0] == "victim.sources.a.b: added"
    assert differences(now, now) == []
