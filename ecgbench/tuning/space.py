"""What is searched: fields of selectors, each with its range or its choices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite, log2
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from ecgbench.core.errors import EcgbenchError, UnknownNameError
from ecgbench.registry.grammar import spell
from ecgbench.registry.selector import parameters, parse

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

KINDS = ("model", "defense", "attack")
RANGE = re.compile(r"(?P<low>[^|]+?)\.\.(?P<high>[^|:]+)(?::(?P<scale>\w+))?")
Scale = Literal["linear", "log", "pow2"]
SCALES: dict[str | None, Scale] = {None: "linear", "log": "log", "pow2": "pow2"}


@dataclass(frozen=True)
class Dimension:
    """A field of the model, the defense or the attack, and what it may be.

    `choices` are words as in a selector; without any a number between `low` and `high`, both included: whole where
    `whole`, drawn evenly on its own scale ("linear"), on that of its logarithm ("log"), or from the powers of two
    ("pow2").
    """

    kind: str
    field: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    scale: Scale = "linear"

    @property
    def name(self) -> str:
        """What it is called in a study."""
        return f"{self.kind}.{self.field}"

    def suggested(self, trial: BaseTrial) -> str:
        """The trial's value, as a selector writes it."""
        if self.choices:
            return str(trial.suggest_categorical(self.name, self.choices))
        if self.scale == "pow2":
            return str(2 ** trial.suggest_int(f"{self.name} (log2)", int(log2(self.low)), int(log2(self.high))))
        log = self.scale == "log"
        if self.whole:
            return str(trial.suggest_int(self.name, int(self.low), int(self.high), log=log))
        return spell(trial.suggest_float(self.name, self.low, self.high, log=log))


def parse_dimension(text: str, values: dict[str, Any]) -> Dimension:
    """`KIND.FIELD=LOW..HIGH`, with `:log` or `:pow2` behind it, or `KIND.FIELD=WORD|WORD|...`.

    `values` are the plugins by kind whose fields are meant. Raises EcgbenchError, in one sentence, for anything else.
    """
    place, equals, given = text.partition("=")
    kind, dot, field = place.strip().partition(".")
    if not (equals and dot and given.strip()):
        raise EcgbenchError(f"--search {text!r} given; expected KIND.FIELD=LOW..HIGH or KIND.FIELD=WORD|WORD.")
    if kind not in KINDS or kind not in values:
        raise UnknownNameError("kind to search", kind, [name for name in KINDS if name in values])
    fields = parameters(values[kind])
    if field not in fields:
        raise UnknownNameError(f"parameter of the {kind}", field, list(fields))
    found = RANGE.fullmatch(given.strip())
    if found is not None:
        return _range(text, kind, field, fields[field], found)
    words = tuple(word.strip() for word in given.split("|"))
    if len(set(words)) != len(words) or not all(words):
        raise EcgbenchError(f"--search {text!r} given; expected different words between the signs |.")
    known = [str(each) for each in get_args(fields[field])] if get_origin(fields[field]) is Literal else words
    for word in words:
        _check_word(text, word)
        if word not in known:
            raise UnknownNameError(f"value of {kind}.{field}", word, known)
    return Dimension(kind, field, choices=words)


def _check_word(text: str, word: str) -> None:
    """Raises EcgbenchError for what no selector can hold, such as half a range."""
    try:
        parse(f"x[x={word}]")
    except EcgbenchError:
        raise EcgbenchError(
            f"--search {text!r} given; {word!r} is no value: expected LOW..HIGH, or values of a selector between |."
        ) from None


def _range(text: str, kind: str, field: str, hint: Any, found: re.Match[str]) -> Dimension:
    whole = _takes(hint, int) and not _takes(hint, float)
    if not (whole or _takes(hint, float)):
        raise EcgbenchError(f"--search {text!r} given; {kind}.{field} holds no number: expected words between |.")
    try:
        low, high = float(found["low"]), float(found["high"])
    except ValueError:
        raise EcgbenchError(f"--search {text!r} given; expected two numbers, LOW..HIGH.") from None
    if found["scale"] not in SCALES:
        raise UnknownNameError("scale of a range", found["scale"], ["log", "pow2"])
    scale = SCALES[found["scale"]]
    if not (low < high and isfinite(high - low)):
        raise EcgbenchError(f"--search {text!r} given; expected finite LOW below HIGH.")
    if scale != "linear" and low <= 0:
        raise EcgbenchError(f"--search {text!r} given; expected LOW above 0 beside :{scale}.")
    powers = scale == "pow2"
    if (whole and not (low.is_integer() and high.is_integer())) or (
        powers and not (log2(low).is_integer() and log2(high).is_integer() and low >= 1)
    ):
        raise EcgbenchError(f"--search {text!r} given; expected {'powers of two' if powers else 'whole numbers'}.")
    return Dimension(kind, field, low=low, high=high, whole=whole, scale=scale)


def _takes(hint: Any, kind: type) -> bool:
    """Whether a field of this type holds numbers of `kind`; a bool is none."""
    return hint is kind or kind in getattr(hint, "__args__", ())
