"""Foreign attacks in the catalog: named, parametrised, identified like any other, and missed with good advice."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pickle
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from ecgbench.core.errors import EcgbenchError, NotInstalledError, UnknownNameError
from ecgbench.registry.catalog import Catalog
from ecgbench.registry.grammar import SelectorError
from ecgbench.registry.identity import identity
from ecgbench.registry.loading import PluginInfo, why
from ecgbench.testing import check_attack
from ecgbench_plugins.attacks.adapters.signature import constructors
from tests.plugins.adapters.library_world import RNG, attack, catalog, mild

ROOT = Path(__file__).parents[3]
ADAPTERS = {
    "torchattacks": ("torchattacks", "pip install --no-deps torchattacks==3.5.1"),
    "foolbox": ("foolbox", "pip install 'ecgbench-robustness[foolbox]'"),
    "art": ("adversarial-robustness-toolbox", "pip install 'ecgbench-robustness[art]'"),
}


@pytest.mark.parametrize(
    "text",
    ["torchattacks.PGD[steps=50]", "art.HopSkipJump[max_iter=10]", "foolbox.LInfFMNAttack", "torchattacks.CW[c=0.5]"],
)
def test_a_selector_is_canonical_and_its_value_survives_pickling(text: str) -> None:
    value = attack(text)
    assert catalog().canonical("attack", value) == text
    assert pickle.loads(pickle.dumps(value)) == value and hash(value) == hash(attack(text))


def test_second_names_are_the_same_value() -> None:
    assert attack("foolbox.LinfFMNAttack") == attack("foolbox.LInfFMNAttack")
    assert attack("foolbox.PGD") == attack("foolbox.LinfProjectedGradientDescentAttack")


def test_an_identity_names_class_version_and_parameters() -> None:
    said = identity(attack("torchattacks.PGD[steps=50]"))
    fields = {"library": "torchattacks 3.5.1", "alpha": None, "steps": 50, "random_start": True}
    assert said == {"class": "ecgbench_plugins.attacks.adapters.torchattacks.PGD", "fields": fields}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("torchattacks.PGD[step=50]", "did you mean 'steps'?"),
        ("torchattacks.PGD[steps=many]", "steps expects a whole number"),
        ("torchattacks.PGD[eps=0.1]", "no parameter 'eps'"),
        ("torchattacks.PDG", "did you mean 'torchattacks.PGD'?"),
    ],
)
def test_a_mistyped_name_or_parameter_is_answered_with_the_nearest(text: str, words: str) -> None:
    with pytest.raises((SelectorError, UnknownNameError), match=words.replace("?", r"\?")):
        attack(text)


@pytest.mark.parametrize(
    "text",
    [
        "torchattacks.PGD[random_start=false,steps=20]",
        "torchattacks.DeepFool",
        "foolbox.L2FastGradientAttack",
        "art.FGM",
    ],
)
def test_a_foreign_attack_keeps_the_promises_of_every_attack(text: str) -> None:
    check_attack(attack(text), shapes=((1, 24),))


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function after which a distribution is as if never installed."""
    real = importlib.metadata.version

    def hide(name: str) -> None:
        def version(distribution: str) -> str:
            if distribution == name:
                raise importlib.metadata.PackageNotFoundError(name)
            return real(distribution)

        monkeypatch.setattr("ecgbench_plugins.attacks.adapters.base.version", version)

    return hide


def adapter(library: str) -> ModuleType:
    """The adapter's module, executed afresh and in nobody's way."""
    spec = importlib.util.find_spec(f"ecgbench_plugins.attacks.adapters.{library}")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("library", list(ADAPTERS))
def test_an_absent_library_is_listed_with_the_reason_and_asking_for_an_attack_gives_it(
    library: str, without: Callable[[str], None]
) -> None:
    distribution, advice = ADAPTERS[library]
    without(distribution)
    with pytest.raises(EcgbenchError) as fault:
        adapter(library)
    assert str(fault.value).startswith(f"{distribution} is not installed; install it with `{advice}`")
    waiting = PluginInfo(
        library, "ecgbench", "1", "", why(fault.value), absent=isinstance(fault.value, NotInstalledError)
    )
    catalog = Catalog({}, {}, {}, {}, (waiting,))
    for name in (library, f"{library}.PGD"):
        with pytest.raises(EcgbenchError, match=f"^{distribution} is not installed; install it with"):
            catalog.lookup("attack", name)
    with pytest.raises(UnknownNameError):
        catalog.lookup("attack", "pgd")


@pytest.mark.parametrize("library", list(ADAPTERS))
def test_a_library_is_installed_in_the_pinned_version_and_by_the_extra_of_all(library: str) -> None:
    distribution, _ = ADAPTERS[library]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert importlib.metadata.version(distribution) == pins[distribution]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["attacks"] == ["ecgbench-robustness[art,foolbox,torchattacks]"]
    assert any(each.startswith(distribution) for each in extras[library])


def test_constructors_are_read_from_source_with_what_they_inherit(tmp_path: Path) -> None:
    text = """
class Base(Attack):
    def __init__(self, model, eps=8 / 255, steps: int = 10, size: Optional[float] = None, way=np.inf, on=True):
        pass

class Child(Base):
    pass

class Other:
    def __init__(
        self,
        *,
        kind: Union[Literal["a"], Literal["b"]] = "a",  # a word
        c=1,
        tail: Optional[Callable] = None,
        range: Tuple[int, int] = (0, 1),
        more: Optional[Dict[str, Any]] = None,
    ) -> None:
        self.kind = kind
"""
    (tmp_path / "attacks.py").write_text(text)
    found = constructors(tmp_path, ["Child", "Other", "Absent"])
    kinds = {name: {each.name: (each.default, each.kind) for each in given} for name, given in found.items()}
    child = {"steps": (10, "int"), "size": (None, "float | None"), "on": (True, "bool"), "eps": (8 / 255, "float")}
    assert kinds["Child"] == {"model": (None, None), "way": (None, None), **child}
    unwritten = {"tail": (None, None), "range": ((0, 1), None), "more": (None, None)}
    assert kinds["Other"] == {"kind": ("a", "str"), "c": (1, "float"), **unwritten}
    assert "Absent" not in kinds


def test_a_foreign_attack_serves_a_training() -> None:
    trial = mild().trial(watch="never", training=True)
    delta = attack("torchattacks.PGD[steps=2]").perturb(trial, RNG)
    assert bool(trial.ball.contains(delta).all()) and all(p.requires_grad for p in trial.victim.module.parameters())
