"""The grammar of a selector, the text that stands for a plugin value: `pgd[steps=50,loss=margin]`.

selector := name [ "[" [ pair { "," pair } [","] ] "]" ]
pair     := name "=" value                      a repeated name is an error
value    := number | string | "true" | "false" | "none" | tuple | selector
tuple    := "(" [ value { "," value } [","] ] ")"
number   := decimal [exponent] [ "/" digits ]   8/255 stays a ratio
name     := [A-Za-z_][A-Za-z0-9_.-]*            "pgd-100" is one name
string   := JSON string

Space between these is ignored. What a bare word means is settled later, by the type of its parameter; only
true, false and none are values at once, so `none[]` spells the selector of a plugin with that name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from typing import NoReturn, TypeAlias, TypeVar

from ecgbench.core.errors import EcgbenchError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
NUMBER = re.compile(r"(-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?)(?:/([0-9]+))?")
KEYWORDS: Mapping[str, bool | None] = {"true": True, "false": False, "none": None}
DEEPEST = 32  # brackets within brackets; far above any honest use, far below Python's recursion limit
LONGEST = 100  # characters of a number

Item = TypeVar("Item")
Value: TypeAlias = "bool | int | float | Fraction | str | tuple[Value, ...] | Selector | None"


class SelectorError(EcgbenchError):
    """A selector that cannot be read, or does not fit the plugin it names."""

    @classmethod
    def at(cls, text: str, position: int, problem: str) -> SelectorError:
        """`problem` at a position (from 0) of `text`; the text and a caret follow on lines of their own."""
        shown = "".join(char if char.isprintable() else " " for char in text)
        return cls(f"{problem} at column {position + 1} of the selector.\n  {shown}\n  {' ' * position}^")


@dataclass(frozen=True)
class Selector:
    """A name and its parameters in the order they were given; `str` prints it so that `parse` reads it back."""

    name: str
    params: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        if not self.params:
            return self.name
        return f"{self.name}[{','.join(f'{key}={spell(value)}' for key, value in self.params)}]"


def parse(text: str) -> Selector:
    """The selector that `text` spells. Raises SelectorError, with the column."""
    return _Reader(text).whole()


def spell(value: Value) -> str:
    """A parameter's value as `parse` reads it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return f"({','.join(map(spell, value))})"
    if isinstance(value, Selector) and value.name in KEYWORDS and not value.params:
        return f"{value.name}[]"
    return str(value)


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0

    def whole(self) -> Selector:
        selector = Selector(self._name("a name"), self._params())
        if self._peek():
            self._fail("the end" if selector.params else "'[' or the end")
        return selector

    def _params(self) -> tuple[tuple[str, Value], ...]:
        seen: set[str] = set()
        return self._list("]", lambda: self._pair(seen)) if self._take("[") else ()

    def _pair(self, seen: set[str]) -> tuple[str, Value]:
        name = self._name("a parameter or ']'")
        if name in seen:
            start = self.position - len(name)
            raise SelectorError.at(self.text, start, f"parameter {name!r} is given a second time")
        seen.add(name)
        if not self._take("="):
            self._fail("'='")
        return name, self._value()

    def _value(self) -> Value:
        char = self._peek()
        if char == '"':
            return self._string()
        if self._take("("):
            return self._list(")", self._value)
        if char and char in "-.0123456789":
            return self._number()
        name = self._name("a value")
        if name in KEYWORDS and self._peek() != "[":
            return KEYWORDS[name]
        return Selector(name, self._params())

    def _list(self, close: str, item: Callable[[], Item]) -> tuple[Item, ...]:
        self.depth += 1
        if self.depth > DEEPEST:
            raise SelectorError.at(self.text, self.position - 1, f"more than {DEEPEST} brackets are open")
        items = []
        while self._peek() != close:
            items.append(item())
            if not self._take(","):
                break
        if not self._take(close):
            self._fail(f"',' or {close!r}")
        self.depth -= 1
        return tuple(items)

    def _name(self, expected: str) -> str:
        self._peek()
        match = NAME.match(self.text, self.position)
        if match is None:
            self._fail(expected)
        self.position = match.end()
        return match.group()

    def _string(self) -> str:
        try:
            string, self.position = json.JSONDecoder().raw_decode(self.text, self.position)
        except json.JSONDecodeError as error:
            raise SelectorError.at(self.text, error.pos, "no JSON string can be read") from error
        return str(string)

    def _number(self) -> int | float | Fraction:
        match = NUMBER.match(self.text, self.position)
        if match is None:
            self._fail("a number")
        top, exponent, bottom = match.groups()
        # the size is limited before any arithmetic: 1/10**(10**9) is short to write
        if len(match.group()) > LONGEST or abs(int(exponent or 0)) > 330 or not isfinite(float(top)):
            raise SelectorError.at(self.text, self.position, "a number beyond float64 is given")
        if bottom is not None and int(bottom) == 0:
            raise SelectorError.at(self.text, match.start(3), "a division by zero is given")
        self.position = match.end()
        if bottom is not None:
            return Fraction(top) / int(bottom)
        return int(top) if top.removeprefix("-").isdigit() else float(top)

    def _peek(self) -> str:
        """The next character that is no space, "" at the end."""
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1
        return self.text[self.position : self.position + 1]

    def _take(self, char: str) -> bool:
        found = self._peek() == char
        self.position += found
        return found

    def _fail(self, expected: str) -> NoReturn:
        char = self._peek()
        got = repr(char) if char else "the end"
        raise SelectorError.at(self.text, self.position, f"expected {expected}, got {got}")
