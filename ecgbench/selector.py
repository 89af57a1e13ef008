"""From a selector to a plugin value and back: `pgd[steps=50]` is the value named pgd with one field replaced.

A bare word is read by the type of the parameter it is given to: a bool (true/false, on/off, yes/no), a choice
of a literal, a string, else the name of a plugin. Where `none` would mean no plugin, `none[]` is the plugin of
that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from fractions import Fraction
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints

from ecgbench.errors import EcgbenchError, instead
from ecgbench.grammar import KEYWORDS, NAME, Selector, SelectorError, Value, parse, spell
from ecgbench.interfaces import Attack, Dataset, Defense, Model
from ecgbench.threat import Threat

__all__ = [
    "INTERFACES",
    "THREATS",
    "Selector",
    "SelectorError",
    "Shelf",
    "canonical",
    "identity",
    "parameters",
    "parse",
    "resolve",
    "words",
]

INTERFACES: Mapping[str, type] = {
    "dataset": Dataset,
    "model": Model,
    "attack": Attack,
    "defense": Defense,
    "threat": Threat,
}
THREATS: Mapping[str, Threat] = {"linf": Threat("linf"), "l2": Threat("l2")}
SWITCHES = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


class Shelf(Protocol):
    """Where values are found by name and kind ("attack", ...); a catalog is one."""

    def value(self, kind: str, name: str) -> Any:
        """The value of that name. Raises UnknownNameError."""

    def values(self, kind: str) -> Mapping[str, Any]:
        """All values of a kind by name."""


def resolve(selector: Selector, kind: str, shelf: Shelf) -> Any:
    """The named value with the parameters put in, each checked against its field's type.

    Raises UnknownNameError for an unknown name and SelectorError for a parameter that is unknown, of the wrong
    type, or refused by the plugin itself.
    """
    value = shelf.value(kind, selector.name)
    types = parameters(value)
    changes = {}
    for key, given in selector.params:
        if key not in types:
            known = instead(key, types) if types else "it has none."
            raise SelectorError(f"{selector.name} has no parameter {key!r}; {known}")
        try:
            changes[key] = _read(given, types[key], shelf)
        except _MisfitError:
            expected = _expected(types[key])
            raise SelectorError(f"{selector.name}: {key} expects {expected}; got {spell(given)}.") from None
    try:
        return replace(value, **changes) if changes else value
    except (EcgbenchError, ValueError, TypeError) as error:
        raise SelectorError(f"{selector} is refused: {str(error).removesuffix('.')}.") from error


def canonical(value: Any, kind: str, shelf: Shelf) -> str:
    """The one selector of a plugin value, however it was spelled; resolving it gives an equal value.

    Its name is the entry of the same class with the fewest differing parameters, the first by alphabet among
    several; these parameters follow, sorted. A float is its shortest decimal, or where that has more than 12
    characters the ratio, such as 8/255, with a denominator up to 1000 that is the same float64. Raises
    EcgbenchError for what no selector can write.
    """
    text = str(_described(value, kind, shelf))
    try:
        same = bool(resolve(parse(text), kind, shelf) == value)
    except EcgbenchError:
        same = False
    if not same:
        raise EcgbenchError(f"{value!r} cannot be written as a selector; the nearest one is {text}.")
    return text


def words(value: Any, shelf: Shelf) -> str:
    """A parameter's value as it would stand in a canonical selector, its `repr` where no selector can write it."""
    try:
        return spell(_written(value, shelf))
    except EcgbenchError:
        return repr(value)


def identity(value: Any) -> Any:
    """What a value is, for hashing: its class and every parameter, defaults filled in, nested, as plain JSON.

    {"class": "ecgbench_plugins.attacks.pgd.PGD", "fields": {"steps": 40, "rel_step": "0.1", ...}}: a float is
    its `repr`, but a whole one is an integer, because equal values have one identity. Raises EcgbenchError for
    a parameter of another type.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        plain = _plain(value)
        return plain if isinstance(plain, int) else repr(plain)
    if isinstance(value, tuple):
        return [identity(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        of = type(value)
        parts = {field.name: identity(getattr(value, field.name)) for field in fields(value) if field.init}
        return {"class": f"{of.__module__}.{of.__qualname__}", "fields": parts}
    raise EcgbenchError(f"{value!r} cannot be identified; expected a number, a string, a tuple or a plugin.")


def parameters(plugin: Any) -> dict[str, Any]:
    """Type of every parameter of a plugin value, by name."""
    types = get_type_hints(type(plugin))
    return {field.name: types[field.name] for field in fields(plugin) if field.init}


def _plain(value: float) -> int | float:
    """A whole float as an integer: 1.0, 1 and -0.0, 0 are equal, so they must look the same."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else float(value)


class _MisfitError(Exception):
    """A value is not of the type its parameter has."""


def _read(given: Value, hint: Any, shelf: Shelf) -> Any:
    """`given` as a value of the type `hint`. Raises _MisfitError where it is none."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _read_union(given, get_args(hint), shelf)
    if origin is Literal:
        return _read_choice(given, get_args(hint))
    if origin is tuple:
        return _read_tuple(given, get_args(hint), shelf)
    if hint in _READERS:
        return _READERS[hint](given)
    return _read_plugin(given, hint, shelf)


def _read_union(given: Value, hints: tuple[Any, ...], shelf: Shelf) -> Any:
    if given is None and NoneType in hints:
        return None
    # plugins last: a name that nobody knows is an error there, not a misfit
    for hint in sorted(hints, key=lambda hint: _kind(hint) is not None):
        try:
            return _read(given, hint, shelf)
        except _MisfitError:
            continue
    raise _MisfitError


def _read_choice(given: Value, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if any(type(choice) is type(one) and choice == one for one in (given, _word(given))):
            return choice
    raise _MisfitError


def _read_tuple(given: Value, hints: tuple[Any, ...], shelf: Shelf) -> tuple[Any, ...]:
    items = given if isinstance(given, tuple) else (given,)
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = hints[:1] * len(items)
    if len(items) != len(hints):
        raise _MisfitError
    return tuple(_read(item, hint, shelf) for item, hint in zip(items, hints, strict=True))


def _read_plugin(given: Value, hint: Any, shelf: Shelf) -> Any:
    kind, word = _kind(hint), _word(given)
    if kind is None or (word is None and not isinstance(given, Selector)):
        raise _MisfitError
    value = resolve(given if isinstance(given, Selector) else Selector(str(word)), kind, shelf)
    if not isinstance(value, hint):
        raise _MisfitError
    return value


def _read_bool(given: Value) -> bool:
    word = (_word(given) or "").lower()
    if word not in SWITCHES:
        raise _MisfitError
    return SWITCHES[word]


def _read_number(given: Value) -> int | float | Fraction:
    if isinstance(given, bool) or not isinstance(given, int | float | Fraction) or not isfinite(given):
        raise _MisfitError
    return given


def _read_int(given: Value) -> int:
    number = _read_number(given)
    if number != int(number):
        raise _MisfitError
    return int(number)


def _read_float(given: Value) -> float:
    return float(_read_number(given))


def _read_str(given: Value) -> str:
    text = given if isinstance(given, str) else _word(given)
    if text is None:
        raise _MisfitError
    return text


def _read_none(given: Value) -> None:
    if given is not None:
        raise _MisfitError


_READERS: Mapping[Any, Callable[[Value], Any]] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: _read_str,
    NoneType: _read_none,
}
_EXPECTED: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word or a string",
    NoneType: "none",
}


def _word(given: Value) -> str | None:
    """The bare word that was given, None if it was something else."""
    if given is None or isinstance(given, bool):
        return str(given).lower()
    return given.name if isinstance(given, Selector) and not given.params else None


def _kind(hint: Any) -> str | None:
    bases = getattr(hint, "__mro__", ())
    return next((kind for kind, interface in INTERFACES.items() if interface in bases), None)


def _expected(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_expected, parts))
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin is tuple:
        return f"a tuple, each item {_expected(parts[0])}" if Ellipsis in parts else f"{len(parts)} values"
    kind = _kind(hint)
    if kind is not None:
        of = "" if hint is INTERFACES[kind] else f" of class {hint.__name__}"
        return f"{'an' if kind == 'attack' else 'a'} {kind}{of}"
    return _EXPECTED.get(hint, "a value that no selector can write")


def _described(value: Any, kind: str, shelf: Shelf) -> Selector:
    """The shortest selector of `value`."""
    names = parameters(value)
    ways = [
        (sorted(key for key in names if getattr(base, key) != getattr(value, key)), name)
        for name, base in shelf.values(kind).items()
        if type(base) is type(value)
    ]
    if not ways:
        raise EcgbenchError(f"{value!r} comes from no known {kind}, so that it has no name.")
    keys, name = min(ways, key=lambda way: (len(way[0]), way[1]))
    return Selector(name, tuple((key, _written(getattr(value, key), shelf)) for key in keys))


def _written(value: Any, shelf: Shelf) -> Value:
    """A parameter's value as it stands in a selector."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and isfinite(value):
        ratio = Fraction(value).limit_denominator(1000)
        return ratio if float(ratio) == value and len(repr(value)) > 12 > len(spell(ratio)) else _plain(value)
    if isinstance(value, str):
        bare = NAME.fullmatch(value) and value.lower() not in {*KEYWORDS, *SWITCHES}
        return Selector(value) if bare else value
    if isinstance(value, tuple):
        return tuple(_written(item, shelf) for item in value)
    for kind, interface in INTERFACES.items():
        if isinstance(value, interface):
            return _described(value, kind, shelf)
    raise EcgbenchError(f"{value!r} cannot be written in a selector.")
