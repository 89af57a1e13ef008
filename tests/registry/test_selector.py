import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Task
from ecgbench.core.errors import EcgbenchError, UnknownNameError
from ecgbench.core.interfaces import Attack, Defense
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.registry.identity import identity
from ecgbench.registry.selector import THREATS, SelectorError, canonical, parse, resolve, words


@dataclass(frozen=True)
class Climb(Attack):
    steps: int = 40
    size: float = 0.1
    cap: float | None = None
    loss: Literal["ce", "margin", "none"] = "ce"
    random: bool = True
    label: str = "a"
    widths: tuple[int, ...] = (3,)
    pair: tuple[int, float] = (1, 0.5)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("expected 1 step or more")

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Still(Attack):
    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Train(Defense):
    attack: Attack = Climb(steps=10)
    climb: Climb = Climb()
    team: tuple[Attack, ...] = ()
    threat: Threat = Threat("linf")
    before: Defense | None = None
    eps: float = 1
    either: int | Attack | None = None
    table: dict[str, int] | None = None

    def fit(self, module: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        raise NotImplementedError


@dataclass(frozen=True)
class Table:
    entries: dict[str, dict[str, Any]]

    def value(self, kind: str, name: str) -> Any:
        if name not in self.entries[kind]:
            raise UnknownNameError(kind, name, self.entries[kind])
        return self.entries[kind][name]

    def values(self, kind: str) -> Mapping[str, Any]:
        return self.entries[kind]


SHELF = Table(
    {
        "attack": {"climb": Climb(), "climb100": Climb(steps=100), "still": Still()},
        "defense": {"none": Train(), "train": Train(eps=0.5)},
        "threat": dict(THREATS),
    }
)
NESTED = {  # parameter -> the kind of plugin it holds
    "attack": "attack",
    "climb": "attack",
    "team": "attack",
    "threat": "threat",
    "before": "defense",
    "either": "attack",
}

floats = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(0, 255).map(lambda n: n / 255)
    | st.integers(-(2**53) + 1, 2**53 - 1)  # Python lets a whole number stand for a float
)
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["mV", "none", "off", "1", "~"])
climbs = st.builds(
    Climb,
    st.sampled_from([40, 100]) | st.integers(1, 10**30),
    floats,
    st.none() | floats,
    st.sampled_from(["ce", "margin", "none"]),
    st.booleans(),
    texts,
    st.lists(st.integers()).map(tuple),
    st.tuples(st.integers(), floats),
)
attacks = climbs | st.just(Still())
threats = st.builds(
    Threat,
    st.sampled_from(["linf", "l2"]),
    st.booleans(),
    st.booleans(),
    texts,
    st.lists(texts, max_size=3).map(tuple),
    st.none() | texts,
)
trains = st.recursive(
    st.just(Train()),
    lambda inner: st.builds(
        Train,
        attacks,
        climbs,
        st.lists(attacks, max_size=2).map(tuple),
        threats,
        st.none() | inner,
        floats,
        st.none() | st.integers() | attacks,
    ),
    max_leaves=4,
)


def read(text: str, kind: str = "attack") -> Any:
    return resolve(parse(text), kind, SHELF)


def refusal(text: str, kind: str = "attack") -> str:
    with pytest.raises(EcgbenchError) as caught:
        read(text, kind)
    return str(caught.value)


@settings(deadline=None, max_examples=200)
@given(trains)
def test_a_canonical_selector_resolves_to_the_value_it_was_made_from(value: Train) -> None:
    text = canonical(value, "defense", SHELF)
    assert read(text, "defense") == value
    assert canonical(read(text, "defense"), "defense", SHELF) == text


def spelled(value: Any, kind: str, draw: Callable[[st.SearchStrategy[Any]], Any]) -> str:
    """One of the many spellings of a value: any base of its class, every parameter, any order, spare space."""
    if isinstance(value, Threat | Attack | Defense):
        assert is_dataclass(value)
        names = [name for name, base in SHELF.values(kind).items() if type(base) is type(value)]
        keys = draw(st.permutations([field.name for field in fields(value) if field.name != "table"]))
        pairs = (f" {key} = {spelled(getattr(value, key), NESTED.get(key, ''), draw)} " for key in keys)
        return f"{draw(st.sampled_from(names))} [{','.join(pairs)}]"
    if isinstance(value, bool):
        return draw(st.sampled_from(["true", "on", "yes", "True"] if value else ["false", "off", "no", "Off"]))
    if isinstance(value, tuple):
        return f"( {''.join(f'{spelled(item, kind, draw)},' for item in value)} )"
    return "none" if value is None else json.dumps(value)


@settings(deadline=None)
@given(trains, st.data())
def test_however_a_value_is_spelled_its_canonical_form_and_identity_are_the_same(
    value: Train, data: st.DataObject
) -> None:
    again = read(spelled(value, "defense", data.draw), "defense")
    assert canonical(again, "defense", SHELF) == canonical(value, "defense", SHELF)
    assert json.dumps(identity(again)) == json.dumps(identity(value))


@settings(deadline=None)
@given(climbs, climbs)
def test_identities_are_equal_exactly_when_values_are(one: Climb, other: Climb) -> None:
    other = replace(other, steps=one.steps, label=one.label, pair=one.pair, widths=one.widths)
    assert (identity(one) == identity(other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("climb[steps=100]", "climb100"),
        ("climb100[steps=40]", "climb"),
        ("climb100[steps=7]", "climb[steps=7]"),
        ("climb[widths=5,steps=1e1]", "climb[steps=10,widths=(5)]"),
        ("climb[size=8/255]", "climb[size=8/255]"),
        ("climb[size=0.03137254901960784]", "climb[size=8/255]"),
        ("climb[size=1/4]", "climb[size=0.25]"),
        ("climb[size=-0.0]", "climb[size=0]"),
        ("climb[size=2.0]", "climb[size=2]"),
        ("climb[random=no,loss=margin]", "climb[loss=margin,random=false]"),
        ('climb[label="b c"]', 'climb[label="b c"]'),
        ('climb[label="bc"]', "climb[label=bc]"),
        ("climb[label=none]", 'climb[label="none"]'),
    ],
)
def test_a_canonical_selector_is_the_shortest_honest_one(text: str, short: str) -> None:
    assert canonical(read(text), "attack", SHELF) == short


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("none[before=none]", "none"),
        ("none[before=none[]]", "none[before=none[]]"),
        ("none[before=none[eps=0.5]]", "none[before=train]"),
        ("train[attack=climb[steps=100],threat=l2]", "train[attack=climb100,threat=l2]"),
        ("train[before=train[before=train[attack=still]]]", "train[before=train[before=train[attack=still]]]"),
        ("none[threat=linf[norm=l2,source_classes=(AF),target=N]]", "none[threat=l2[source_classes=(AF),target=N]]"),
        ("none[threat=linf[mask=off,bounds=off,unit=mV]]", "none[threat=linf[bounds=false,mask=false,unit=mV]]"),
        ("none[either=still,team=still]", "none[either=still,team=(still)]"),
    ],
)
def test_nested_plugins_are_canonical_too(text: str, short: str) -> None:
    assert canonical(read(text, "defense"), "defense", SHELF) == short


def test_none_is_a_plugin_where_one_is_needed_and_nothing_where_that_is_allowed() -> None:
    assert read("none", "defense") == Train()
    assert read("none[before=none]", "defense").before is None
    assert read("none[before=none[]]", "defense").before == Train()


def test_a_parameter_that_is_not_given_keeps_the_named_value() -> None:
    assert read("climb100[size=1]") == Climb(steps=100, size=1.0)
    assert read("climb100") is SHELF.entries["attack"]["climb100"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("clim", "no attack is named 'clim'; did you mean 'climb'?"),
        ("climb[step=3]", "climb has no parameter 'step'; did you mean 'steps'?"),
        ("still[step=3]", "still has no parameter 'step'; it has none."),
        ("climb[access=score]", "climb has no parameter 'access'; known: "),
        ("climb[steps=1.5]", "climb: steps expects a whole number; got 1.5."),
        ("climb[steps=7/2]", "climb: steps expects a whole number; got 7/2."),
        ("climb[steps=true]", "climb: steps expects a whole number; got true."),
        ("climb[steps=0]", "climb[steps=0] is refused: expected 1 step or more."),
        ("climb[size=nan]", "climb: size expects a number; got nan."),
        ("climb[size=inf]", "climb: size expects a number; got inf."),
        ('climb[size="1"]', 'climb: size expects a number; got "1".'),
        ("climb[cap=big]", "climb: cap expects a number or none; got big."),
        ("climb[loss=cee]", "climb: loss expects one of ce, margin, none; got cee."),
        ("climb[random=1]", "climb: random expects true or false; got 1."),
        ("climb[label=3]", "climb: label expects a word or a string; got 3."),
        ("climb[label=b[c=1]]", "climb: label expects a word or a string; got b[c=1]."),
        ("climb[widths=(1,b)]", "climb: widths expects a tuple, each item a whole number; got (1,b)."),
        ("climb[pair=(1,2,3)]", "climb: pair expects 2 values; got (1,2,3)."),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    assert refusal(text).startswith(sentence) and "\n" not in refusal(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train[attack=clim]", "no attack is named 'clim'; did you mean 'climb'?"),
        ("train[attack=climb[stps=1]]", "climb has no parameter 'stps'; did you mean 'steps'?"),
        ("train[attack=3]", "train: attack expects an attack; got 3."),
        ("train[attack=none]", "no attack is named 'none'; known: climb, climb100, still."),
        ("train[climb=still]", "train: climb expects an attack of class Climb; got still."),
        ("train[team=(still,1)]", "train: team expects a tuple, each item an attack; got (still,1)."),
        ("train[either=clim]", "no attack is named 'clim'; did you mean 'climb'?"),
        ("train[threat=l_inf]", "no threat is named 'l_inf'; did you mean 'linf'?"),
        ("train[before=1]", "train: before expects a defense or none; got 1."),
        ("train[table=1]", "train: table expects a value that no selector can write or none; got 1."),
    ],
)
def test_a_nested_plugin_that_does_not_fit_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    assert refusal(text, "defense") == sentence


def test_a_refusal_keeps_the_plugins_own_error_as_its_cause() -> None:
    with pytest.raises(SelectorError) as caught:
        read("climb[steps=0]")
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_value_that_no_selector_can_write_is_refused() -> None:
    with pytest.raises(EcgbenchError, match="cannot be written"):
        canonical(Train(table={"a": 1}), "defense", SHELF)


@pytest.mark.parametrize(("field", "given"), [("label", 3), ("size", float("inf")), ("size", float("nan"))])
def test_a_value_changed_behind_its_back_is_refused(field: str, given: object) -> None:
    value = Climb()
    object.__setattr__(value, field, given)
    with pytest.raises(EcgbenchError, match="cannot be written"):
        canonical(value, "attack", SHELF)


def test_a_value_of_an_unknown_class_has_no_name() -> None:
    with pytest.raises(EcgbenchError, match="comes from no known attack"):
        canonical(Train(), "attack", SHELF)


def test_an_identity_holds_the_class_and_every_parameter() -> None:
    assert identity(Threat("l2", source_classes=("AF",))) == {
        "class": "Threat",
        "fields": {
            "norm": "l2",
            "mask": True,
            "bounds": True,
            "unit": "native",
            "source_classes": ["AF"],
            "target": None,
        },
    }


def test_an_identity_holds_nested_plugins_and_floats_by_repr() -> None:
    parts = identity(Train(eps=0.1))["fields"]
    assert parts["eps"] == "0.1" and parts["attack"]["fields"]["steps"] == 10


def test_an_identity_does_not_tell_equal_numbers_apart() -> None:
    assert identity(Train(eps=1)) == identity(Train(eps=1.0)) and identity(0.0) == identity(-0.0)


def test_an_identity_of_anything_else_is_refused() -> None:
    with pytest.raises(EcgbenchError, match="cannot be identified"):
        identity(Train(table={"a": 1}))


def test_a_parameter_is_put_into_words_as_a_selector_would_write_it() -> None:
    assert [words(value, SHELF) for value in (None, True, 8 / 255, "mV", (Climb(steps=100),))] == [
        "none",
        "true",
        "8/255",
        "mV",
        "(climb100)",
    ]
    assert words({"a": 1}, SHELF) == "{'a': 1}"
