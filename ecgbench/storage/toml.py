"""A TOML file read into a Struct; a fault is one sentence with the file, the field's path and what is expected."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo

from ecgbench.core.errors import EcgbenchError, instead

Table = TypeVar("Table", bound=Struct)
Text = Annotated[str, Meta(pattern=r"\S")]
"""Text that is not blank."""
TYPES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
FAULT = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
STEP = re.compile(r"\[(\d+|\.\.\.)\]|\.([^.\[]+)")
SHOWN = 60  # characters of a value in an error


def read_toml(path: Path, kind: type[Table], file: str, error: type[EcgbenchError]) -> Table:
    """The table of a TOML file as a `kind`. Raises `error`, naming `file` and the field, for anything else."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise error(f"{file} cannot be read: {fault.strerror or fault}; expected a TOML file.") from None
    except (ValueError, RecursionError) as fault:
        raise error(f"{file} is not TOML: {fault}.") from None
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as fault:
        raise error(_sentence(str(fault), content, kind, file)) from None


def _sentence(fault: str, content: object, kind: type[Struct], file: str) -> str:
    """What msgspec has found, in words; its `fault` ends in the path of the field, such as $.grid[0].model"""
    found = FAULT.fullmatch(fault)
    what, path = (found["what"], found["path"] or "") if found else (fault, "")
    steps = list(_steps([index or name for index, name in STEP.findall(path)], content, kind))
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")
    named = re.search("field `(.*)`", what)
    if named is None:
        return f"{file} gives {where} = {_shown(content, steps)}; expected {_expected(what, kind, steps)}."
    place, fields = f"{file}, {where}," if where else file, _fields(kind, steps)
    if named[1] not in fields:
        return f"{place} has the field {named[1]!r}; {instead(named[1], fields)}"
    required = ", ".join(_written(field) for field in fields.values() if field.required)
    return f"{place} lacks {_written(fields[named[1]])}; expected at least {required}."


def _steps(names: Sequence[str], content: Any, kind: Any) -> Iterator[int | str]:
    """The path as positions and keys; msgspec writes [...] for a key of a table of words: the first that is wrong."""
    for name in names:
        step: int | str = int(name) if name.isdecimal() else name
        kind = _below(kind, step)
        if name == "...":
            step = next(key for key, value in content.items() if not _fits(value, kind))
        content = content[step]
        yield step


def _fits(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _below(kind: Any, step: int | str) -> Any:
    """The type of what lies one step below a `kind`; None where nothing does."""
    for part in _alternatives(kind):
        if isinstance(part, type) and issubclass(part, Struct):
            return next((field.type for field in msgspec.structs.fields(part) if field.name == step), None)
        if get_origin(part) in (list, dict):
            return get_args(part)[-1]
    return None


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone, without constraints."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _fields(kind: Any, steps: Sequence[int | str]) -> dict[str, FieldInfo]:
    """The fields, by name, of the Struct that lies at the path `steps` below `kind`; none where there is no Struct."""
    for step in steps:
        kind = _below(kind, step)
    structs = (part for part in _alternatives(kind) if isinstance(part, type) and issubclass(part, Struct))
    return {field.name: field for part in structs for field in msgspec.structs.fields(part)}


def _written(field: FieldInfo) -> str:
    """How a field is written in TOML: name, [name] or [[name]]."""
    if _fields(field.type, [0]) and get_origin(_alternatives(field.type)[0]) is list:
        return f"[[{field.name}]]"
    table = _fields(field.type, []) or any(get_origin(part) is dict for part in _alternatives(field.type))
    return f"[{field.name}]" if table else field.name


def _shown(content: Any, steps: Sequence[int | str]) -> str:
    """The value at the path, as Python writes it, cut if it is long."""
    for step in steps:
        content = content[step]
    text = repr(content)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _expected(what: str, kind: type[Struct], steps: Sequence[int | str]) -> str:
    """What a fault such as "Expected `int | null`, got `str`" expects: a whole number; tables by their name."""
    field = _fields(kind, steps[:-1]).get(str(steps[-1])) if steps else None
    if field is not None and (written := _written(field)) != field.name:
        return f"tables {written}" if written.startswith("[[") else f"a table {written}"
    wanted = what.partition(", got ")[0].partition(" matching regex ")[0].removeprefix("Expected ")
    return re.sub("`(.*?)`", lambda types: _words(types[1]), wanted)


def _words(types: str) -> str:
    return " or ".join(TYPES.get(name, name) for name in types.split(" | ") if name != "null")  # TOML has no null
