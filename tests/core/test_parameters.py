"""Values are checked where they are made, by the same reader as selectors."""

from __future__ import annotations

import copy
import enum
import pickle
from dataclasses import FrozenInstanceError, InitVar, dataclass, field, make_dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Task
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Attack, Dataset, Defense, Model
from ecgbench.core.parameters import Parameterised, check_parameters
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.evaluation.sweep import Protocol
from ecgbench.registry.catalog import discover

CATALOG = discover()


def unasked(self: Attack, trial: Trial, rng: RandomStream) -> Tensor:
    raise NotImplementedError


@dataclass(frozen=True)
class Base(Attack):
    perturb = unasked
    steps: int = 40
    size: float = 0.1
    cap: float | None = None
    loss: Literal["ce", "margin"] = "ce"
    random: bool = True
    label: str = "a"
    widths: tuple[int, ...] = (3,)
    pair: tuple[int, float] = (1, 0.5)
    other: Attack | None = None
    threat: Threat = Threat("linf")
    table: dict[str, int] | None = None
    anything: Any = None


class Word(str, enum.Enum):  # noqa: UP042 - as older code has it: `str` of a member is not its value
    CE = "ce"


MISFITS = [
    ("steps", 2.5, "a whole number", "2.5"),
    ("steps", "10", "a whole number", "'10'"),
    ("steps", True, "a whole number", "True"),
    ("steps", None, "a whole number", "None"),
    ("steps", np.float64(2.5), "a whole number", r"2\.5|np\.float64\(2\.5\)"),
    ("steps", float("nan"), "a whole number", "nan"),
    ("steps", torch.tensor(3), "a whole number", r"tensor\(3\)"),
    ("size", "0.1", "a number", "'0.1'"),
    ("size", False, "a number", "False"),
    ("size", float("inf"), "a number", "inf"),
    ("size", float("nan"), "a number", "nan"),
    ("size", np.float32("-inf"), "a number", r".*inf.*"),
    ("size", 10**400, "a number", r"1000.*\.\.\."),
    ("size", 1j, "a number", "1j"),
    ("cap", "none", "a number or none", "none"),
    ("loss", "CE", "one of ce, margin", "CE"),
    ("loss", None, "one of ce, margin", "None"),
    ("loss", ["ce"], "one of ce, margin", r"\['ce'\]"),
    ("random", 1, "true or false", "1"),
    ("random", "true", "true or false", "true"),
    ("label", 3, "a word or a string", "3"),
    ("label", b"a", "a word or a string", "b'a'"),
    ("widths", (1, 2.5), "a tuple, each item a whole number", r"\(1, 2\.5\)"),
    ("widths", {1, 2}, "a tuple, each item a whole number", r"\{1, 2\}"),
    ("widths", "12", "a tuple, each item a whole number", "'12'"),
    ("pair", (1, 2, 3), "2 values", r"\(1, 2, 3\)"),
    ("other", "pgd", "an attack or none", "pgd"),
    ("other", Base, "an attack or none", "<class.*"),
    ("threat", "linf", "a threat", "linf"),
    ("threat", Base(), "a threat", "Base.*"),
    ("table", [1], "a value that no selector can write or none", r"\[1\]"),
]


@pytest.mark.parametrize(("name", "value", "expected", "got"), MISFITS)
def test_a_parameter_of_another_type_is_refused_in_one_sentence(name: str, value: Any, expected: str, got: str) -> None:
    with pytest.raises(EcgbenchError, match=rf"^Base: {name} expects {expected}; got ({got})\.$"):
        Base(**{name: value})


@pytest.mark.parametrize(("name", "value", "expected", "got"), MISFITS)
def test_so_is_one_that_is_replaced(name: str, value: Any, expected: str, got: str) -> None:
    with pytest.raises(EcgbenchError, match=f"{name} expects {expected}"):
        replace(Base(), **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("steps", np.int64(5), 5),
        ("steps", np.uint8(5), 5),
        ("steps", 5.0, 5),
        ("steps", np.float32(5), 5),
        ("steps", 10**30, 10**30),
        ("size", np.float32(0.1), 0.10000000149011612),
        ("size", 1, 1.0),
        ("size", Fraction(8, 255), 8 / 255),
        ("cap", np.float16(0.5), 0.5),
        ("loss", np.str_("margin"), "margin"),
        ("loss", Word.CE, "ce"),
        ("label", Word.CE, "ce"),
        ("random", np.bool_(False), False),
        ("widths", [1, np.int8(2)], (1, 2)),
        ("widths", [], ()),
        ("widths", 7, (7,)),
        ("pair", [2, 1], (2, 1.0)),
        ("other", Base(steps=3), Base(steps=3)),
        ("threat", Threat("l2"), Threat("l2")),
        ("table", {"a": 1}, {"a": 1}),
        ("anything", object, object),
    ],
)
def test_an_exact_equivalent_is_converted(name: str, value: Any, read: Any) -> None:
    found = getattr(Base(**{name: value}), name)
    assert found == read and type(found) is type(read)
    if isinstance(found, tuple):
        assert [type(item) for item in found] == [type(item) for item in read]


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.lists(st.integers()))
def test_what_fits_is_kept(steps: int, size: float, random: bool, widths: list[int]) -> None:
    value = Base(steps=steps, size=size, random=random, widths=tuple(widths))
    assert (value.steps, value.size, value.random, value.widths) == (steps, size, random, tuple(widths))
    hash(value)


@pytest.mark.parametrize("norm", ["Linf", "inf", np.inf, "l1", "L2", 2, None, "", "linf ", ("linf",)])
def test_a_norm_spelt_as_elsewhere_is_refused(norm: Any) -> None:
    with pytest.raises(EcgbenchError, match=r"^Threat: norm expects one of linf, l2; got"):
        Threat(norm)


def test_classes_of_a_threat_are_a_tuple_and_never_letters() -> None:
    assert Threat("linf", source_classes="AF", target="N") == Threat("linf", source_classes=("AF",), target="N")  # type: ignore[arg-type]
    assert hash(Threat("linf", source_classes=["A", "B"], target="N"))  # type: ignore[arg-type]


def test_a_protocol_is_checked_before_its_own_rules() -> None:
    with pytest.raises(EcgbenchError, match=r"^Protocol: success expects one of first, last; got fist\.$"):
        Protocol(success="fist")  # type: ignore[arg-type]
    with pytest.raises(EcgbenchError, match="per_class expects a whole number; got '5'"):
        Protocol(per_class="5")  # type: ignore[arg-type]
    with pytest.raises(EcgbenchError, match="per_class=-1 given"):
        Protocol(per_class=-1)


# the check always runs, whatever a class does


def refused(of: Any, **given: Any) -> None:
    with pytest.raises(EcgbenchError, match=r"steps expects a whole number; got 2\.5\."):
        of(steps=2.5, **given)


def test_it_runs_before_a_post_init_that_calls_nobody() -> None:
    seen = []

    @dataclass(frozen=True)
    class Own(Base):
        more: int = 1

        def __post_init__(self) -> None:
            seen.append((self.steps, type(self.steps), self.more))

    refused(Own)
    assert seen == []
    Own(steps=np.int64(3), more=2.0)  # type: ignore[arg-type]
    assert seen == [(3, int, 2)]


def test_it_runs_before_a_post_init_of_a_mixin_and_of_a_base() -> None:
    @dataclass(frozen=True)
    class Schedule:
        steps: int = 1

        def __post_init__(self) -> None:
            if self.steps < 1:
                raise ValueError("too few")

    @dataclass(frozen=True)
    class Mixed(Schedule, Defense):
        def fit(self, module: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
            raise NotImplementedError

    @dataclass(frozen=True)
    class Further(Mixed):
        def __post_init__(self) -> None:
            super().__post_init__()

    for of in (Mixed, Further):
        refused(of)
        with pytest.raises(EcgbenchError, match="steps expects a whole number"):
            of(steps="3")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="too few"):
            of(steps=0)


def test_it_runs_for_slots_keywords_init_variables_and_made_classes() -> None:
    @dataclass(frozen=True, slots=True)
    class Slotted(Attack):
        steps: int = 1

    @dataclass(frozen=True, kw_only=True)
    class Keyworded(Attack):
        steps: int
        unit: str = "a"

    @dataclass(frozen=True)
    class Extra(Attack):
        perturb = unasked
        steps: int = 1
        twice: InitVar[bool] = False
        made: int = field(init=False, default=0)

        def __post_init__(self, twice: bool) -> None:
            object.__setattr__(self, "made", self.steps * (2 if twice else 1))

    made = make_dataclass("Made", [("steps", "int", field(default=1))], bases=(Base,), frozen=True)
    for of in (Slotted, Keyworded, Extra, made):
        refused(of)
        assert of(steps=np.int32(4)).steps == 4
    assert Extra(3, twice=True).made == 6


def test_it_runs_after_an_init_of_its_own() -> None:
    @dataclass(frozen=True)
    class Own(Attack):
        perturb = unasked
        steps: int

        def __init__(self, steps: Any) -> None:
            object.__setattr__(self, "steps", steps)

    class Plain(Base):
        def __init__(self, steps: Any) -> None:
            super().__init__(steps=steps)

    for of in (Own, Plain):
        refused(of)
        assert type(of(np.int64(3)).steps) is int


@pytest.mark.parametrize("interface", [Attack, Model, Defense, Dataset])
def test_every_kind_of_plugin_is_checked(interface: type) -> None:
    refused(make_dataclass("Made", [("steps", int, field(default=1))], bases=(interface,), frozen=True))


def test_a_class_without_parameters_or_decorator_is_left_alone() -> None:
    class Bare(Attack):
        perturb = unasked

        def __init__(self) -> None:
            self.steps = "many"

    assert Bare().steps == "many"
    check_parameters(Bare())


def test_the_interfaces_ask_nothing_new_of_values_that_do_not_inherit() -> None:
    duck = {name: print for name in {**vars(Attack), **Attack.__annotations__} if not name.startswith("_")}
    assert isinstance(type("Duck", (), duck)(), Attack) and not isinstance(3, Attack)
    assert "__post_init__" not in vars(Parameterised)


def test_an_annotation_that_names_nothing_is_told_in_one_sentence() -> None:
    lost = make_dataclass("Lost", [("steps", "Unheard", field(default=1))], bases=(Attack,), frozen=True)
    with pytest.raises(EcgbenchError, match=r"^Lost: its parameters cannot be told \(name 'Unheard' is not defined\)"):
        lost()


def test_a_value_stays_frozen_and_is_copied_as_it_is() -> None:
    value = Base(steps=np.int64(7), widths=[1, 2])  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        value.steps = 3  # type: ignore[misc]
    assert copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(
    ("kind", "text", "given"),
    [
        ("attack", "pgd", {"steps": "10"}),
        ("attack", "pgd", {"loss": "CE"}),
        ("attack", "apgd", {"restarts": True}),
        ("attack", "transfer", {"surrogate": "none"}),
        ("defense", "adaptive", {"threat": "linf"}),
        ("defense", "adaptive", {"epochs": 2.5}),
        ("model", "mlp", {"widths": ("a",)}),
        ("dataset", "synthetic-beats", {"beats": "300"}),
    ],
)
def test_built_in_values_are_checked(kind: str, text: str, given: dict[str, Any]) -> None:
    value, name = CATALOG.resolve(kind, text), next(iter(given))
    with pytest.raises(EcgbenchError, match=f"{type(value).__name__}: {name} expects "):
        replace(value, **given)


def test_equal_values_have_one_selector_however_their_numbers_came() -> None:
    pgd: Any = CATALOG.resolve("attack", "pgd")
    value = replace(pgd, steps=np.int64(7), rel_step=np.float64(0.25))
    assert CATALOG.canonical("attack", value) == "pgd20[steps=7]"
