"""The constructors of a library's attacks, read from its source text: importing the library would take seconds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLASS = re.compile(r"^class (\w+)(?:\((.*?)\))?:(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
INIT = re.compile(r"^    def __init__(\(.*?\))[^()\n]*:[^\n]*$", re.MULTILINE | re.DOTALL)
HOLDERS = {"Callable", "Dict", "Iterable", "List", "Sequence", "Tuple", "dict", "list", "tuple"}
WHOLE = {"c", "kappa", "lam", "scale", "confidence"}  # numbers whose default only happens to be whole


@dataclass(frozen=True)
class Parameter:
    """One argument of a constructor; `kind` names its type, None where no selector can write its values."""

    name: str
    default: Any
    kind: str | None


def constructors(folder: Path, names: Iterable[str]) -> Mapping[str, tuple[Parameter, ...]]:
    """What the named classes below `folder` are constructed with, without `self`; inherited where they have no own.

    A name that no class has is left out.
    """
    found: dict[str, tuple[str, str]] = {}
    for file in sorted(folder.rglob("*.py")):
        for name, bases, body in CLASS.findall(file.read_text(encoding="utf-8")):
            found[name] = (bases, body)
    return {name: tuple(_parameters(_init(name, found))) for name in names if name in found}


def _init(name: str, found: Mapping[str, tuple[str, str]]) -> str:
    """The argument list of the first constructor on the way up."""
    if name not in found:
        return ""
    bases, body = found[name]
    own = INIT.search(body)
    if own:
        return own.group(1)
    above = (_init(base, found) for base in re.findall(r"\w+", bases) if base != name)
    return next(filter(None, above), "")


def _parameters(arguments: str) -> Iterator[Parameter]:
    if not arguments:
        return
    (function,) = ast.parse(f"def f{arguments}: ...").body
    assert isinstance(function, ast.FunctionDef)
    given = function.args
    missing: list[ast.expr | None] = [None] * (len(given.args) - len(given.defaults))
    pairs = [*zip(given.args, [*missing, *given.defaults], strict=True)]
    for argument, default in [*pairs[1:], *zip(given.kwonlyargs, given.kw_defaults, strict=True)]:
        value = _value(default)
        yield Parameter(argument.arg, value, _kind(argument, value))


def _value(node: ast.expr | None) -> Any:
    """A default that is written out: a literal, or a ratio such as 8/255; None for any other."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        top, bottom = _value(node.left), _value(node.right)
        return top / bottom if top is not None and bottom is not None else None
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None


def _kind(argument: ast.arg, default: Any) -> str | None:
    """The type of a parameter, by its annotation or its default."""
    kinds = {"bool": "bool", "float": "float", "int": "int", "str": "str", "Literal": "str"}
    written = "" if argument.annotation is None else ast.unparse(argument.annotation)
    words = ["float"] if argument.arg in WHOLE else [*re.findall(r"\w+", written), type(default).__name__]
    kind = None if HOLDERS & set(words) else next((kinds[word] for word in kinds if word in words), None)
    return kind if kind is None or default is not None else f"{kind} | None"
