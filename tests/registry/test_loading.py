from types import ModuleType

import pytest

from ecgbench.registry.loading import PluginInfo, examine, why

HEAD = """
from dataclasses import dataclass, field
from ecgbench.core.hookspecs import hookimpl
from ecgbench.core.interfaces import Attack, Model

@dataclass(frozen=True)
class Push(Attack):
    steps: int = 1
    def perturb(self, trial, rng): return 0

"""
HOOK = HEAD + "@hookimpl\ndef attacks():\n    return "
MODEL = """

@dataclass(frozen=True)
class Net(Model):
    default_dataset = "some"
    def build(self, task): return 0

"""


def module(source: str, file: str = "plug.py") -> ModuleType:
    made = ModuleType("plug")
    made.__file__ = file
    exec(compile(source, file, "exec"), vars(made))
    return made


def examined(source: str) -> PluginInfo:
    return examine(lambda: module(source), "plug", "dist", "1.0")


def test_a_module_offers_the_values_of_its_hooks() -> None:
    info = examined(HOOK + "{'push': Push(), 'push-9': Push(9)}")
    assert info.ok and [(offer.kind, offer.name, offer.value.steps) for offer in info.registered] == [
        ("attack", "push", 1),
        ("attack", "push-9", 9),
    ]
    assert {(offer.release, offer.plugin, offer.origin) for offer in info.registered} == {
        ("dist 1.0", "plug", "plug.py")
    }


def test_one_module_may_offer_two_kinds() -> None:
    info = examined(HOOK + "{'push': Push()}" + MODEL + "@hookimpl\ndef models(): return {'net': Net()}")
    assert sorted((offer.kind, offer.name) for offer in info.registered) == [("attack", "push"), ("model", "net")]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (HOOK.replace("def attacks", "def attaks") + "{}", "no hook is named 'attaks'; did you mean 'attacks'?"),
        (
            HEAD,
            "it implements no hook; expected a function marked @hookimpl: datasets, models, attacks, defenses, "
            "certificates.",
        ),
        (HOOK.replace("attacks()", "attacks(config)") + "{}", "Argument(s) {'config'} are declared in the hookimpl"),
        (HOOK + "[Push()]", "attacks() gave [Push(steps=1)]; expected values by name, a mapping."),
        (HOOK + "{'push': Push}", "attacks() gave 'push': the class Push; expected a value such as Push()."),
        (HOOK + "{'push it': Push()}", "attacks() gave 'push it': a bad name; expected a letter or _, then"),
        (HOOK + "{3: Push()}", "attacks() gave 3: a bad name"),
        (HOOK + "{'push': 3}", "attacks() gave 'push': 3; expected a frozen dataclass, compared by value."),
        (HOOK.replace("(frozen=True)", "") + "{'push': Push()}", "expected a frozen dataclass"),
        (
            HOOK.replace("(Attack)", "") + "{'push': Push()}",
            "Push lacks access, determinism, eot, libraries, longer, minimal, reach, stops_at_success, "
            "surrogate, unfit; expected",
        ),
        (HOOK.replace("perturb", "attack") + "{'push': Push()}", "Push lacks perturb; expected all of Attack"),
        (HOOK.replace("int = 1", "list = field(default_factory=list)") + "{'push': Push()}", "unhashable type: 'list'"),
        (HOOK + "1 / 0", "ZeroDivisionError: division by zero."),
        (HOOK + "exit(3)", "SystemExit: 3."),
    ],
)
def test_a_module_that_breaks_a_rule_is_refused_in_one_sentence(source: str, reason: str) -> None:
    with pytest.raises((Exception, SystemExit)) as caught:
        examined(source)
    assert reason in why(caught.value) and "\n" not in why(caught.value)
    assert why(caught.value).endswith((".", "?"))


def test_a_misspelt_hook_may_be_declared_optional() -> None:
    source = HOOK + "{'push': Push()}\n@hookimpl(optionalhook=True)\ndef boards():\n    return {}"
    assert len(examined(source).registered) == 1


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(Exception, match="expected a module"):
        examine(lambda: 3, "plug", "dist", "1.0")


def test_a_broken_plugin_is_not_ok() -> None:
    assert PluginInfo("a", "d", "1").ok and not PluginInfo("a", "d", "1", reason="x").ok
