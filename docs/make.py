"""The pages that are made from code: record.schema.json and reference.md.

`python docs/make.py` writes them; `python docs/make.py --check` exits 1 where one is stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from inspect import cleandoc, signature
from pathlib import Path
from types import FunctionType
from typing import Any

from ecgbench import testing
from ecgbench.checks.flags import REGISTRY
from ecgbench.core import certificates, errors, hookspecs
from ecgbench.core.data import Batch, Samples, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.interfaces import Attack, Dataset, Model
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball, Goal, Threat
from ecgbench.core.trial import Trial, ValueAndGrad
from ecgbench.core.victim import Victim
from ecgbench.registry import grammar
from ecgbench.registry.catalog import HOST, Catalog, discover
from ecgbench.registry.loading import HOOKS
from ecgbench.results.record import schema

HERE = Path(__file__).parent
OWN = "ecgbench_plugins"  # the package of built-in plugins
OPTIONAL = {"torchattacks", "foolbox", "art"}  # what they offer depends on the libraries installed
ERRORS = (
    *(errors.EcgbenchError, errors.UnknownNameError, grammar.SelectorError),
    *(errors.DataError, errors.NotInstalledError, errors.StoreError),
    *(errors.ContractError, testing.BrokenPromiseError),
)
PROMISES: Mapping[str, Sequence[testing.Promise[Any]]] = {
    "dataset": testing.DATASET_PROMISES,
    "model": testing.MODEL_PROMISES,
    "attack": testing.ATTACK_PROMISES,
    "defense": testing.DEFENSE_PROMISES,
}
GIVEN: Sequence[type] = (
    Trial,
    ValueAndGrad,
    Ball,
    Goal,
    Threat,
    Batch,
    Samples,
    Task,
    Victim,
    RandomStream,
    Checkpoint,
    DataRoot,
)
ABOUT = """\
# Reference

Made from the code by `python docs/make.py`; what is edited here by hand is lost.
"""


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with --check only name the stale ones on stderr; the exit status."""
    stale = [name for name, text in pages().items() if _read(HERE / name) != text]
    if "--check" in arguments:
        for name in stale:
            sys.stderr.write(f"docs/{name} is stale; run: python docs/make.py\n")
        return 1 if stale else 0
    for name in stale:
        (HERE / name).write_text(pages()[name], encoding="utf-8", newline="\n")
    return 0


def pages() -> dict[str, str]:
    """The text of every page by file name."""
    return {
        "record.schema.json": json.dumps(_cleaned(schema()), indent=2, ensure_ascii=False) + "\n",
        "reference.md": "\n".join([ABOUT, *_reference(discover())]),
    }


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _cleaned(part: Any) -> Any:
    """The same schema with its docstrings unindented, as some versions of Python have them already."""
    if isinstance(part, dict):
        return {
            name: cleandoc(value) if name == "description" and isinstance(value, str) else _cleaned(value)
            for name, value in part.items()
        }
    return [_cleaned(item) for item in part] if isinstance(part, list) else part


def _reference(catalog: Catalog) -> Iterator[str]:
    for hook in HOOKS:
        yield f"## {hook.title()}\n"
        offers = [offer for offer in getattr(catalog, hook).values() if OWN in offer.origin]
        own = {offer.name: offer.value for offer in offers if offer.plugin not in OPTIONAL}
        for names in _by_class(own):
            yield from _plugin(names, catalog)
    yield "## Threats and protocols\n"
    for values in HOST.values():
        for names in _by_class(values):
            yield from _plugin(names, catalog)
    yield "## Hooks\n"
    specs = {**vars(hookspecs), **vars(certificates)}
    yield from _table(["hook", "gives"], [[f"`{hook}`", _first(specs[hook])] for hook in HOOKS])
    yield "## What a plugin is given\n"
    for given in GIVEN:
        yield from _given(given)
    yield "## Promises\n"
    yield "What `ecgbench.testing` holds a plugin to, in this order.\n"
    for kind, promises in PROMISES.items():
        yield f"### `check_{kind}`\n"
        yield from _table(["promise", "expected"], [[f"`{each.name}`", each.text] for each in promises])
    yield "## Flags\n"
    flags = [[f"`{flag.code}`", flag.meaning, flag.cost, flag.about] for flag in REGISTRY]
    yield from _table(["flag", "raised where", "check", "about"], flags)
    yield "## Errors\n"
    yield from _table(
        ["error", "exit status", "is"], [[f"`{each.__name__}`", str(each.exit_code), _first(each)] for each in ERRORS]
    )


def _given(given: type) -> Iterator[str]:
    """One class: its docstring, its fields, and its methods with signature and what they do."""
    yield f"### {given.__name__}\n"
    yield cleandoc(given.__doc__ or "") + "\n"
    own = [field for field in fields(given) if not field.name.startswith("_")] if is_dataclass(given) else []
    if own:
        yield f"Fields: {', '.join(f'`{field.name}: {field.type}`' for field in own)}.\n"
    rows = []
    for name, member in vars(given).items():
        if name.startswith("_") or not getattr(member, "__doc__", None):
            continue
        if isinstance(member, property):
            rows.append([f"`{name}: {signature(member.fget).return_annotation}`", _first(member)])
        elif isinstance(member, FunctionType | classmethod):
            rows.append([f"`{name}{_signature(getattr(given, name))}`", _first(member)])
    if rows:
        yield from _table(["method", "gives"], rows)


def _signature(call: Callable[..., object]) -> str:
    """Its parameters and result as they are written, without self."""
    shown = signature(call)
    kept = [each for each in shown.parameters.values() if each.name != "self"]
    return str(shown.replace(parameters=kept)).replace("'", "")


def _by_class(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Values by name, those of one class together."""
    groups: dict[type, dict[str, Any]] = {}
    for name, value in values.items():
        groups.setdefault(type(value), {})[name] = value
    return list(groups.values())


def _plugin(values: Mapping[str, Any], catalog: Catalog) -> Iterator[str]:
    """One class: its names, its docstring, what it says of itself, its parameters with a column for each name."""
    value = next(iter(values.values()))
    yield f"### {', '.join(f'`{name}`' for name in values)}\n"
    yield cleandoc(type(value).__doc__ or "") + "\n"
    yield from _facts(value, catalog)
    rows = []
    for field in fields(value):
        settings = (catalog.words(getattr(each, field.name)) for each in values.values())
        rows.append([f"`{word}`" for word in (field.name, field.type, *settings)])
    if rows:
        yield from _table(["parameter", "type", *(f"`{name}`" for name in values)], rows)


def _facts(value: Any, catalog: Catalog) -> Iterator[str]:
    if isinstance(value, Dataset):
        plan = value.defaults
        sizes = ", ".join(f"{eps:g}" for eps in plan.eps)
        threat = catalog.canonical("threat", plan.threat)
        yield f"Defaults of a run: threat `{threat}`, eps {sizes}, headline {plan.headline:g}."
        own = (
            "Embedded.\n"
            if type(value).files is Dataset.files
            else "Recordings are brought along, and never downloaded.\n"
        )
        yield own if value.remote is None else f"Recordings: {value.remote.url}\n"
    elif isinstance(value, Model):
        yield f"Default dataset: `{value.default_dataset}`.\n"
    elif isinstance(value, Attack):
        yield f"Access: {value.access}.\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _first(documented: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(cleandoc(documented.__doc__ or "").split("\n\n")[0].split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
