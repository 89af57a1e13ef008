"""A contract is a list of named promises, kept or broken one after the other."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from typing import Generic, Protocol, TypeVar

from ecgbench.core.errors import ContractError, UnknownNameError
from ecgbench.registry.identity import identity
from ecgbench.registry.selector import parameters


class About(Protocol):
    """A case is about one plugin."""

    @property
    def plugin(self) -> object:
        """The plugin value."""


Case = TypeVar("Case", bound=About)


class BrokenPromiseError(ContractError):
    """A plugin broke the promise named `promise`."""

    def __init__(self, who: object, promise: str, expected: str, got: str) -> None:
        super().__init__(who, f"{expected} (promise {promise!r})", got)
        self.promise = promise


@dataclass(frozen=True)
class Promise(Generic[Case]):
    """One promise: a function of a plugin's case that says what it got instead, None where the promise is kept.

    The function's name is the promise's, its docstring what is expected.
    """

    check: Callable[[Case], str | None]

    @property
    def name(self) -> str:
        """The word by which an exception is declared."""
        return self.check.__name__

    @property
    def text(self) -> str:
        """What is promised: the words after "expected" in an error."""
        text = " ".join(cleandoc(self.check.__doc__ or "").split()).removesuffix(".")
        return text[:1].lower() + text[1:]


def examine(case: Case, promises: Sequence[Promise[Case]], expected: Mapping[str, str]) -> None:
    """Hold the case's plugin to every promise, in order; `expected` names those it cannot keep, with the reason.

    Raises BrokenPromiseError for the first promise broken, and for a declared one that is kept after all.
    """
    names = [promise.name for promise in promises]
    for name in expected:
        if name not in names:
            raise UnknownNameError("promise", name, names)
    for promise in promises:
        got, fault = _got(promise, case)
        if got is not None and promise.name not in expected:
            raise BrokenPromiseError(case.plugin, promise.name, promise.text, got) from fault
        if got is None and promise.name in expected:
            reason = expected[promise.name]
            raise BrokenPromiseError(
                case.plugin, promise.name, f"this promise broken, as declared: {reason}", "it kept"
            )


def _got(promise: Promise[Case], case: Case) -> tuple[str | None, Exception | None]:
    """What was got instead, and the exception behind it; a plugin may raise anything."""
    try:
        return promise.check(case), None
    except Exception as fault:
        return f"{type(fault).__name__}: {' '.join(str(fault).split()).removesuffix('.')}", fault


def odd(name: str, given: object, *kinds: type) -> str | None:
    """Name and value of a plugin's part that is of none of the `kinds`."""
    return None if isinstance(given, kinds) else f"{name} {given!r}"


def unfit_everywhere(reasons: Sequence[object]) -> str | None:
    """What is wrong with the answers of `unfit`, if anything: no reason in words, or one for every task."""
    for reason in reasons:
        if reason is not None and not (isinstance(reason, str) and reason):
            return f"unfit(...) = {reason!r}"
    return f"one unfit for all ({reasons[0]})" if None not in reasons else None


def value(case: About) -> str | None:
    """A frozen dataclass of numbers, words, tuples and plugins that equals its pickled copy in value, hash and repr."""
    plugin = case.plugin
    made = getattr(plugin, "__dataclass_params__", None)
    if isinstance(plugin, type) or made is None or not (made.frozen and made.eq):
        return "no frozen dataclass value"
    parameters(plugin)
    identity(plugin)
    copy = pickle.loads(pickle.dumps(plugin))
    if copy != plugin or hash(copy) != hash(plugin):
        return "a copy that differs"
    return None if repr(copy) == repr(plugin) else "a repr that differs from copy to copy"
