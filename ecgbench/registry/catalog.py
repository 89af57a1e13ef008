"""Which plugins there are: every module behind an entry point of the group "ecgbench", and what it offers.

A plugin that cannot be loaded, or breaks a rule of the hooks, is listed with its reason and harms no other.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, overload

from ecgbench.core import hookspecs
from ecgbench.core.certificates import Certificate
from ecgbench.core.errors import EcgbenchError, NotInstalledError, UnknownNameError
from ecgbench.core.interfaces import Attack, Dataset, Defense, Model
from ecgbench.core.threat import Threat
from ecgbench.evaluation.guard import apart, guarded
from ecgbench.evaluation.sweep import Protocol
from ecgbench.registry import selector
from ecgbench.registry.installed import DISTRIBUTION, check_alone
from ecgbench.registry.loading import HOOKS, PluginInfo, RegisteredPlugin, examine, where, why

HOST: Mapping[str, Mapping[str, Any]] = {"threat": selector.THREATS, "protocol": {"standard": Protocol()}}
KINDS = (*HOOKS.values(), *HOST)
LOCAL = "local"  # stands for the distribution of a plugin given by name or path


@dataclass(frozen=True)
class Catalog:
    """All offers by kind and name; kinds are "dataset", "model", "attack", "defense", "certificate", "threat",
    "protocol".

    A name that two plugins offer stands in `contested`, (kind, name) -> the sentence that says so, and cannot
    be used. `given` names the plugins that were asked for beside the installed ones: modules, and files by their
    absolute paths.
    """

    datasets: Mapping[str, RegisteredPlugin]
    models: Mapping[str, RegisteredPlugin]
    attacks: Mapping[str, RegisteredPlugin]
    defenses: Mapping[str, RegisteredPlugin]
    plugins: tuple[PluginInfo, ...] = ()
    contested: Mapping[tuple[str, str], str] = field(default_factory=dict)
    certificates: Mapping[str, RegisteredPlugin] = field(default_factory=dict)
    given: tuple[str, ...] = ()

    def lookup(self, kind: str, name: str) -> RegisteredPlugin:
        """The offer of that name. Raises UnknownNameError, and EcgbenchError if contested or its plugin broken."""
        if (kind, name) in self.contested:
            raise EcgbenchError(self.contested[kind, name])
        offers = self._registered(kind)
        if name in offers:
            return offers[name]
        for plugin in self.plugins:
            if plugin.name in (name, name.partition(".")[0]) and not plugin.ok:  # a library's names begin with its own
                about = "" if plugin.absent else f"plugin {name!r} of {plugin.distribution} is broken: "
                raise EcgbenchError(f"{about}{plugin.reason}")
        raise UnknownNameError(kind, name, offers)

    def names(self, kind: str) -> tuple[str, ...]:
        """All names of a kind that can be used, sorted."""
        return tuple(sorted(self.values(kind)))

    def value(self, kind: str, name: str) -> Any:
        """The value of that name. Raises as `lookup` does."""
        return self.lookup(kind, name).value

    def values(self, kind: str) -> Mapping[str, Any]:
        """All values of a kind that can be used, by name."""
        offers = self._registered(kind).values()
        return {entry.name: entry.value for entry in offers if (kind, entry.name) not in self.contested}

    @overload
    def resolve(self, kind: Literal["dataset"], text: str) -> Dataset: ...
    @overload
    def resolve(self, kind: Literal["model"], text: str) -> Model: ...
    @overload
    def resolve(self, kind: Literal["attack"], text: str) -> Attack: ...
    @overload
    def resolve(self, kind: Literal["defense"], text: str) -> Defense: ...
    @overload
    def resolve(self, kind: Literal["certificate"], text: str) -> Certificate: ...
    @overload
    def resolve(self, kind: Literal["threat"], text: str) -> Threat: ...
    @overload
    def resolve(self, kind: Literal["protocol"], text: str) -> Protocol: ...
    @overload
    def resolve(self, kind: str, text: str) -> Any: ...
    def resolve(self, kind: str, text: str) -> Any:
        """The value that a selector spells. Raises SelectorError, and as `lookup` does."""
        return selector.resolve(selector.parse(text), kind, self)

    def canonical(self, kind: str, value: Any) -> str:
        """The one selector of a value. Raises EcgbenchError for a value of no offered class."""
        return selector.canonical(value, kind, self)

    def words(self, value: Any) -> str:
        """A parameter's value as it stands in a selector."""
        return selector.words(value, self)

    def provider(self, kind: str, value: Any) -> str:
        """Distribution and version that a value's name comes from."""
        return self.lookup(kind, selector.parse(self.canonical(kind, value)).name).release

    def _registered(self, kind: str) -> Mapping[str, RegisteredPlugin]:
        if kind in HOST:
            return {
                name: RegisteredPlugin(value, name, kind, "", DISTRIBUTION, "", "")
                for name, value in HOST[kind].items()
            }
        hook = next((hook for hook, of in HOOKS.items() if of == kind), None)
        if hook is None:
            raise UnknownNameError("kind", kind, KINDS)
        offers: Mapping[str, RegisteredPlugin] = getattr(self, hook)
        return offers


def discover(extra: Sequence[str] = ()) -> Catalog:
    """A fresh catalog of all installed plugins and of `extra`: modules importable from here, or .py files.

    Raises EcgbenchError if one of `extra` is broken, or where another project has installed into this package; a broken
    installed plugin is listed with its reason.
    """
    check_alone()
    _check_stems(extra)
    given = dict.fromkeys(str(Path(item).resolve()) if _is_file(item) else item for item in extra)
    with apart():
        return replace(_merged((*_installed(), *map(_given, dict.fromkeys(extra)))), given=tuple(given))


def _installed() -> Iterator[PluginInfo]:
    points = entry_points(group=hookspecs.PROJECT)
    distributions = {id(point.dist): point.dist for point in points}
    owners = {key: _owner(distribution) for key, distribution in distributions.items()}  # each reads a file
    for (distribution, version), point in sorted((owners[id(point.dist)], point) for point in points):
        try:
            with guarded(point.name):
                plugin = examine(point.load, point.name, distribution, version)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            absent = isinstance(error, NotInstalledError)
            plugin = PluginInfo(point.name, distribution, version, where(error), why(error), absent=absent)
        yield plugin


def _owner(distribution: Distribution | None) -> tuple[str, str]:
    return ("unknown", "") if distribution is None else (distribution.name or "unknown", distribution.version or "")


def _given(item: str) -> PluginInfo:
    """A plugin given by module name or path."""
    file = Path(item).resolve() if _is_file(item) else None
    try:
        with guarded(item), _importable(file.parent if file else Path.cwd()):
            if file is None:
                return examine(lambda: importlib.import_module(item), item, LOCAL, "")
            return examine(lambda: _load_file(file), file.stem, LOCAL, "")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if file is not None:
            sys.modules.pop(_module_name(file), None)
        place = where(error)
        raise EcgbenchError(f"plugin {item!r}{place and f' ({place})'} is refused: {why(error)}") from error


def _is_file(item: str) -> bool:
    return item.endswith(".py") or "/" in item or "\\" in item


def _check_stems(extra: Iterable[str]) -> None:
    taken: dict[str, Path] = {}
    for file in (Path(item).resolve() for item in extra if _is_file(item)):
        other = taken.setdefault(file.stem, file)
        if other != file:
            raise EcgbenchError(f"plugins {other} and {file} were given; expected different file names.")


def _module_name(file: Path) -> str:
    """Made of the stem alone: the names of classes count in the identity of results, and folders must not."""
    return f"ecgbench_file_{file.stem}"


def _load_file(file: Path) -> ModuleType:
    name = _module_name(file)
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(file):
        return loaded
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise EcgbenchError("no such file; expected a module name or the path of a .py file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(folder))


def _merged(plugins: Iterable[PluginInfo]) -> Catalog:
    """Offers of all plugins by kind and name; a name with two owners is contested."""
    plugins = tuple(plugins)
    found: dict[str, dict[str, RegisteredPlugin]] = {kind: {} for kind in HOOKS.values()}
    contested: dict[tuple[str, str], str] = {}
    for entry in (entry for plugin in plugins for entry in plugin.registered):
        first = found[entry.kind].setdefault(entry.name, entry)
        if (first.origin, first.value) != (entry.origin, entry.value):  # one module may be reached by two ways
            contested[entry.kind, entry.name] = (
                f"{entry.kind} {entry.name!r} is offered by {first.release} (plugin {first.plugin}) and by "
                f"{entry.release} (plugin {entry.plugin}); uninstall one of them, or rename what it offers."
            )
    offers = {hook: dict(sorted(found[kind].items())) for hook, kind in HOOKS.items()}
    return Catalog(
        datasets=offers["datasets"],
        models=offers["models"],
        attacks=offers["attacks"],
        defenses=offers["defenses"],
        plugins=plugins,
        contested=contested,
        certificates=offers["certificates"],
    )
