"""What one plugin module offers: values by kind and name, each checked against the rules of the hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

import pluggy

from ecgbench.core import certificates, hookspecs
from ecgbench.core.errors import EcgbenchError, UnknownNameError
from ecgbench.core.parameters import check_parameters
from ecgbench.registry.grammar import NAME
from ecgbench.registry.selector import INTERFACES

HOOKS = {
    **{"datasets": "dataset", "models": "model", "attacks": "attack", "defenses": "defense"},
    "certificates": "certificate",
}
REQUIRED_METHODS = {
    **{"dataset": "load", "model": "build", "attack": "perturb", "defense": "fit"},
    "certificate": "prove",
}


@dataclass(frozen=True)
class RegisteredPlugin:
    """A value under its name, and whose it is; `origin` is the file of the plugin's module."""

    value: Any
    name: str
    kind: str
    plugin: str
    distribution: str
    version: str
    origin: str

    @property
    def release(self) -> str:
        """Distribution and version, "ecgbench 0.1.0"; "local" for a plugin given by name or path."""
        return f"{self.distribution} {self.version}".rstrip()


@dataclass(frozen=True)
class PluginInfo:
    """One plugin module; `reason` says why it cannot be used, `absent` that it only waits for a library.

    `origin` is its file, with a line where it broke.
    """

    name: str
    distribution: str
    version: str
    origin: str = ""
    reason: str | None = None
    registered: tuple[RegisteredPlugin, ...] = ()
    absent: bool = False

    @property
    def ok(self) -> bool:
        """Whether its offers can be used."""
        return self.reason is None

    @property
    def state(self) -> str:
        """One phrase: ok, which library is not installed and how to install it, or why it is broken and where."""
        if self.reason is None:
            return "ok"
        return self.reason if self.absent else f"broken: {self.reason} ({self.origin or 'no source'})"


class _RefusedError(EcgbenchError):
    """A plugin breaks a rule of the hooks, at a place of its own source."""

    def __init__(self, reason: str, origin: str) -> None:
        super().__init__(reason)
        self.origin = origin


def examine(load: Callable[[], object], name: str, distribution: str, version: str) -> PluginInfo:
    """Load a plugin and take its offers; raises whatever is wrong with it."""
    module = load()
    if not isinstance(module, ModuleType):
        raise EcgbenchError(f"its entry point names {module!r}; expected a module.")
    origin = module.__file__ or ""
    offers = tuple(
        RegisteredPlugin(value, key, kind, name, distribution, version, origin)
        for kind, key, value in _taken(module, origin)
    )
    return PluginInfo(name, distribution, version, origin, registered=offers)


def _taken(module: ModuleType, origin: str) -> Iterator[tuple[str, str, Any]]:
    """Kind, name and value of everything a module offers, each checked."""
    for hook, function in _implementations(module):
        place = f"{origin}:{function.__code__.co_firstlineno}"
        if hook not in HOOKS:
            raise _RefusedError(str(UnknownNameError("hook", hook, HOOKS)), place)
        offered = function()
        if not isinstance(offered, Mapping):
            raise _RefusedError(f"{hook}() gave {offered!r}; expected values by name, a mapping.", place)
        for name, value in offered.items():
            fault = _fault(name, value, HOOKS[hook])
            if fault:
                raise _RefusedError(f"{hook}() gave {name!r}: {fault}", place)
            yield HOOKS[hook], name, value


def _implementations(module: ModuleType) -> list[tuple[str, Any]]:
    """Every function of the module that is marked as a hook, with the name of that hook."""
    plugins = pluggy.PluginManager(hookspecs.PROJECT)  # one of its own, so that no plugin can disturb another
    plugins.add_hookspecs(hookspecs)
    plugins.add_hookspecs(certificates)
    plugins.register(module)
    found = [(hook.name, each) for hook in plugins.get_hookcallers(module) or () for each in hook.get_hookimpls()]
    if not found:
        raise EcgbenchError(f"it implements no hook; expected a function marked @hookimpl: {', '.join(HOOKS)}.")
    return [(hook, each.function) for hook, each in found if hook in HOOKS or not each.optionalhook]


def _fault(name: object, value: Any, kind: str) -> str | None:
    """What is wrong with an offer, if anything."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return "a bad name; expected a letter or _, then letters, digits, _, . or -."
    if isinstance(value, type):
        return f"the class {value.__name__}; expected a value such as {value.__name__}()."
    made = getattr(value, "__dataclass_params__", None)
    if made is None or not (made.frozen and made.eq):
        return f"{value!r}; expected a frozen dataclass, compared by value."
    interface = INTERFACES[kind]
    promised = {*vars(interface), *interface.__annotations__}
    missing = sorted(each for each in promised if not each.startswith("_") and not hasattr(value, each))
    method = REQUIRED_METHODS[kind]
    if method not in missing and getattr(type(value), method, None) is getattr(interface, method):
        missing.append(method)
    if missing:
        return f"{type(value).__name__} lacks {', '.join(missing)}; expected all of {kind.title()} (inherit from it)."
    return _unreadable(value)


def _unreadable(value: Any) -> str | None:
    try:
        check_parameters(value)
        hash(value)
    except EcgbenchError as fault:
        return str(fault)
    except Exception as error:
        return f"its parameters cannot be told ({error}); expected annotated fields that can be hashed."
    return None


def why(error: BaseException) -> str:
    """The reason as one sentence."""
    text = " ".join(str(error).split())
    if not isinstance(error, EcgbenchError):
        text = f"{type(error).__name__}: {text}"
    return text if text.endswith((".", "?", "!")) else f"{text}."


def where(error: BaseException) -> str:
    """file:line of the plugin's own code where it broke, "" if none of it ran."""
    if isinstance(error, _RefusedError):
        return error.origin
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    ours = (Path(__file__).parents[1], Path(pluggy.__file__).parent)
    for frame in extract_tb(error.__traceback__):
        file = Path(frame.filename)
        if (
            not frame.filename.startswith("<")
            and not any(file.is_relative_to(place) for place in ours)
            and not {"importlib", "importlib_metadata"} & set(file.parts)
        ):
            return f"{frame.filename}:{frame.lineno}"
    return ""
