"""From a selector to a plugin value and back: `pgd[steps=50]` is the value named pgd with one field replaced.

A bare word is read by the type of the parameter it is given to: a bool (true/false, on/off, yes/no), a choice
of a literal, a string, else the name of a plugin. Where `none` would mean no plugin, `none[]` is the plugin of
that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from math import isfinite
from typing import Any, Protocol

from ecgbench.core.certificates import Certificate
from ecgbench.core.errors import EcgbenchError, instead
from ecgbench.core.interfaces import Attack, Dataset, Defense, Model
from ecgbench.core.parameters import SWITCHES, MisfitError, Reader, kind, misfit, parameters
from ecgbench.core.threat import Threat
from ecgbench.registry.grammar import KEYWORDS, NAME, Selector, SelectorError, Value, parse, spell
from ecgbench.registry.identity import plain_number

__all__ = [
    "INTERFACES",
    "THREATS",
    "Resolver",
    "Selector",
    "SelectorError",
    "canonical",
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
    "certificate": Certificate,
    "threat": Threat,
}
THREATS: Mapping[str, Threat] = {"linf": Threat("linf"), "l2": Threat("l2")}


class Resolver(Protocol):
    """Where values are found by name and kind ("attack", ...); a catalog is one."""

    def value(self, kind: str, name: str) -> Any:
        """The value of that name. Raises UnknownNameError."""

    def values(self, kind: str) -> Mapping[str, Any]:
        """All values of a kind by name."""


def resolve(selector: Selector, kind: str, resolver: Resolver) -> Any:
    """The named value with the parameters put in, each checked against its field's type.

    Raises UnknownNameError for an unknown name and SelectorError for a parameter that is unknown, of the wrong
    type, or refused by the plugin itself.
    """
    value = resolver.value(kind, selector.name)
    types, reader = parameters(value), _FromSelector(resolver)
    changes = {}
    for key, given in selector.params:
        if key not in types:
            known = instead(key, types) if types else "it has none."
            raise SelectorError(f"{selector.name} has no parameter {key!r}; {known}")
        try:
            changes[key] = reader.read(given, types[key])
        except MisfitError:
            raise SelectorError(misfit(selector.name, key, types[key], spell(given))) from None
    try:
        return replace(value, **changes) if changes else value
    except (EcgbenchError, ValueError, TypeError) as error:
        raise SelectorError(f"{selector} is refused: {str(error).removesuffix('.')}.") from error


def canonical(value: Any, kind: str, resolver: Resolver) -> str:
    """The one selector of a plugin value, however it was spelled; resolving it gives an equal value.

    Its name is the entry of the same class with the fewest differing parameters, the first by alphabet among
    several; these parameters follow, sorted. A float is its shortest decimal, or where that has more than 12
    characters the ratio, such as 8/255, with a denominator up to 1000 that is the same float64. Raises
    EcgbenchError for what no selector can write.
    """
    text = str(_described(value, kind, resolver))
    try:
        same = bool(resolve(parse(text), kind, resolver) == value)
    except EcgbenchError:
        same = False
    if not same:
        raise EcgbenchError(f"{value!r} cannot be written as a selector; the nearest one is {text}.")
    return text


def changed(value: Any, name: str, base: Any, resolver: Resolver) -> str:
    """The selector of `value` that begins with `name`, the entry of the value `base` of the same class."""
    keys = sorted(key for key in parameters(value) if getattr(base, key) != getattr(value, key))
    return str(Selector(name, tuple((key, _written(getattr(value, key), resolver)) for key in keys)))


def words(value: Any, resolver: Resolver) -> str:
    """A parameter's value as it would stand in a canonical selector, its `repr` where no selector can write it."""
    try:
        return spell(_written(value, resolver))
    except EcgbenchError:
        return repr(value)


class _FromSelector(Reader):
    """Reads what a selector holds: bare words, and plugins by their names."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver

    def word(self, given: Value) -> str | None:
        return _word(given)

    def other(self, given: Value, hint: Any) -> Any:
        of, word = kind(hint), _word(given)
        if of is None or (word is None and not isinstance(given, Selector)):
            raise MisfitError
        value = resolve(given if isinstance(given, Selector) else Selector(str(word)), of, self.resolver)
        if not isinstance(value, hint):
            raise MisfitError
        return value


def _word(given: Value) -> str | None:
    """The bare word that was given, None if it was something else."""
    if given is None or isinstance(given, bool):
        return str(given).lower()
    return given.name if isinstance(given, Selector) and not given.params else None


def _described(value: Any, kind: str, resolver: Resolver) -> Selector:
    """The shortest selector of `value`."""
    same = {name: base for name, base in resolver.values(kind).items() if type(base) is type(value)}
    if not same:
        raise EcgbenchError(f"{value!r} comes from no known {kind}, so that it has no name.")
    names = parameters(value)
    ways = [
        (sorted(key for key in names if getattr(base, key) != getattr(value, key)), name) for name, base in same.items()
    ]
    keys, name = min(ways, key=lambda way: (len(way[0]), way[1]))
    return Selector(name, tuple((key, _written(getattr(value, key), resolver)) for key in keys))


def _written(value: Any, resolver: Resolver) -> Value:
    """A parameter's value as it stands in a selector."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and isfinite(value):
        ratio = Fraction(value).limit_denominator(1000)
        return ratio if float(ratio) == value and len(repr(value)) > 12 > len(spell(ratio)) else plain_number(value)
    if isinstance(value, str):
        bare = NAME.fullmatch(value) and value.lower() not in {*KEYWORDS, *SWITCHES}
        return Selector(value) if bare else value
    if isinstance(value, tuple):
        return tuple(_written(item, resolver) for item in value)
    for name, interface in INTERFACES.items():
        if isinstance(value, interface):
            return _described(value, name, resolver)
    raise EcgbenchError(f"{value!r} cannot be written in a selector.")
