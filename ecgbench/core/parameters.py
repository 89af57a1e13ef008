"""Parameters of plugins and of the host's own values: the fields of a dataclass, read by their types.

A value is checked where it is made, in Python as from a selector: one reader serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from functools import cache, wraps
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints

import numpy as np

from ecgbench.core.errors import EcgbenchError

SWITCHES = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


class MisfitError(Exception):
    """A value is not of the type its parameter has."""


class Parameterised(Protocol):
    """Base of frozen dataclasses whose fields are parameters: one of another type is refused when the value is made.

    Exact equivalents are converted: a number of numpy, a whole float for an int, an int for a float, a list for a
    tuple. The check runs after the generated `__init__` and before a `__post_init__`, also one of a subclass that
    does not call its base's; where a class has an `__init__` of its own, after that. Raises EcgbenchError.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Protocol in cls.__bases__:
            return
        owner = next((base for base in cls.__mro__ if "__post_init__" in vars(base)), None)
        if owner is None or owner is cls or Parameterised not in owner.__mro__:
            cls.__post_init__ = _checked_before(getattr(cls, "__post_init__", None))  # type: ignore[attr-defined]
        if "__init__" in vars(cls):
            cls.__init__ = _checked_after(cls.__init__)  # type: ignore[method-assign]


def _checked_before(own: Callable[..., None] | None) -> Callable[..., None]:
    def post_init(self: Any, *given: Any) -> None:
        check_parameters(self)
        if own is not None:
            own(self, *given)

    return post_init if own is None else wraps(own)(post_init)


def _checked_after(own: Callable[..., None]) -> Callable[..., None]:
    @wraps(own)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        check_parameters(self)

    return init


def check_parameters(value: Any) -> None:
    """Raises EcgbenchError for the first parameter of another type than its field; exact equivalents are converted."""
    if not is_dataclass(value):
        return
    reader = Reader()
    for name, hint in parameters(value).items():
        if not hasattr(value, name):  # an `__init__` of its own has not come to it yet
            continue
        given = getattr(value, name)
        try:
            read = reader.read(given, hint)
        except MisfitError:
            raise EcgbenchError(misfit(type(value).__name__, name, hint, shown(given))) from None
        if read is not given:
            object.__setattr__(value, name, read)


def parameters(value: Any) -> dict[str, Any]:
    """Type of every parameter of a value, by name. Raises EcgbenchError where an annotation names nothing."""
    try:
        types = _hints(type(value))  # type: ignore[arg-type]
    except (NameError, TypeError, AttributeError, SyntaxError) as fault:
        raise EcgbenchError(
            f"{type(value).__name__}: its parameters cannot be told ({fault}); expected annotations by names that its "
            "module imports."
        ) from None
    return {field.name: types[field.name] for field in fields(value) if field.init}


@cache
def _hints(of: type) -> dict[str, Any]:
    """Annotations are compiled once for each class: values are made often."""
    return get_type_hints(of)


def misfit(owner: str, name: str, hint: Any, shown: str) -> str:
    """The sentence for a parameter of another type than `hint`."""
    return f"{owner}: {name} expects {expected(hint)}; got {shown}."


class Reader:
    """Reads a value by the type of its parameter; a subclass says what a bare word and a plugin are where it reads."""

    def read(self, given: Any, hint: Any) -> Any:
        """`given` as a value of the type `hint`. Raises MisfitError where it is none."""
        given, origin = _plain(given), get_origin(hint)
        if origin in (Union, UnionType):
            return self._union(given, get_args(hint))
        if origin is Literal:
            return self._choice(given, get_args(hint))
        if origin is tuple:
            return self._tuple(given, get_args(hint))
        if hint in _SCALARS:
            return _SCALARS[hint](given, self.word(given))
        return self.other(given, hint)

    def word(self, given: Any) -> str | None:
        """The bare word that was given, None if it was something else; Python has none."""
        return None

    def other(self, given: Any, hint: Any) -> Any:
        """`given` where the type is neither a scalar nor made of such: a plugin, mostly."""
        of = get_origin(hint) or hint
        if not isinstance(of, type) or of is Any:
            return given
        if not _is(given, of) or (kind(of) is not None and isinstance(given, type)):  # a class has all its methods, too
            raise MisfitError
        return given

    def _union(self, given: Any, hints: tuple[Any, ...]) -> Any:
        if given is None and NoneType in hints:
            return None
        # plugins last: a name that nobody knows is an error there, not a misfit
        for hint in sorted(hints, key=lambda hint: kind(hint) is not None):
            try:
                return self.read(given, hint)
            except MisfitError:
                continue
        raise MisfitError

    def _choice(self, given: Any, choices: tuple[Any, ...]) -> Any:
        for choice in choices:
            if any(type(choice) is type(one) and choice == one for one in (given, self.word(given))):
                return choice
        raise MisfitError

    def _tuple(self, given: Any, hints: tuple[Any, ...]) -> tuple[Any, ...]:
        items = tuple(given) if isinstance(given, tuple | list) else (given,)
        if len(hints) == 2 and hints[1] is Ellipsis:
            hints = hints[:1] * len(items)
        if len(items) != len(hints):
            raise MisfitError
        return tuple(self.read(item, hint) for item, hint in zip(items, hints, strict=True))


def kind(hint: Any) -> str | None:
    """The kind of plugin, or of value of the host, that a class is of: "attack", "threat", ...; None for others."""
    for base in getattr(hint, "__mro__", ()):
        if Parameterised in base.__bases__:
            return str(base.__name__).lower()
    return None


def expected(hint: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(expected, parts))
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin is tuple:
        return f"a tuple, each item {expected(parts[0])}" if Ellipsis in parts else f"{len(parts)} values"
    of = kind(hint)
    if of is not None:
        which = "" if hint.__name__.lower() == of else f" of class {hint.__name__}"
        return f"{'an' if of == 'attack' else 'a'} {of}{which}"
    return _EXPECTED.get(hint, "a value that no selector can write")


def _plain(given: Any) -> Any:
    """A scalar of numpy, or of a class derived from a string, as Python's own."""
    if isinstance(given, np.generic):
        given = given.item()
    return str.__str__(given) if isinstance(given, str) else given


def _is(given: Any, of: type) -> bool:
    try:
        return isinstance(given, of)
    except TypeError:  # a protocol that cannot be asked
        return True


def shown(given: Any) -> str:
    """What was given, on one line of at most 60 characters; a word without quotes, as in a selector."""
    if isinstance(given, str) and given.isidentifier():
        return given
    text = " ".join(repr(given).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bool(given: Any, word: str | None) -> bool:
    if isinstance(given, bool):
        return given
    if word is None or word.lower() not in SWITCHES:
        raise MisfitError
    return SWITCHES[word.lower()]


def _number(given: Any) -> int | float | Fraction:
    if isinstance(given, bool) or not isinstance(given, int | float | Fraction):
        raise MisfitError
    if isinstance(given, float) and not isfinite(given):
        raise MisfitError
    return given


def _int(given: Any, _: str | None) -> int:
    number = _number(given)
    if number != int(number):
        raise MisfitError
    return int(number)


def _float(given: Any, _: str | None) -> float:
    try:
        return float(_number(given))
    except OverflowError:
        raise MisfitError from None


def _str(given: Any, word: str | None) -> str:
    text = given if isinstance(given, str) else word
    if text is None:
        raise MisfitError
    return text


def _none(given: Any, _: str | None) -> None:
    if given is not None:
        raise MisfitError


_SCALARS: Mapping[Any, Callable[[Any, str | None], Any]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    NoneType: _none,
}
_EXPECTED: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word or a string",
    NoneType: "none",
}
