"""Every built-in plugin keeps every promise of its kind, presets and variants included."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ecgbench.core.dataroot import DataRoot
from ecgbench.core.training import Schedule
from ecgbench.registry.catalog import discover
from ecgbench.testing import check_attack, check_dataset, check_defense, check_model

CATALOG = discover()
RECORDINGS = os.environ.get("ECGBENCH_DATA")
WEAK = {
    "identity": {"strong": "it is the control that changes nothing", "targeted": "0 goes nowhere"},
    "noise": {"strong": "it knows nothing of the victim", "targeted": "it draws without an aim"},
    "square": {"strong": "some hundred queries are few for an L2 ball of 864 unstructured numbers"},
    "pgd-cinc-study": {"strong": "its steps of 0.02, however large eps is, do not cross a large ball"},
    "ista-ehr": {
        "order": "its optimizer carries moments from sample to sample",
        "strong": "its threshold is above its first step",
        "targeted": "its threshold is above its first step",
    },
    "ista-aa": {"strong": "its threshold is above its steps", "targeted": "its threshold is above its steps"},
    "sap": {"strong": "a smooth perturbation is less than the ball allows"},
    "band-limited": {"strong": "a wave of a band is less than the ball allows"},
    "baseline-wander": {"strong": "a wave of a band is less than the ball allows"},
}
INSTEAD = {  # of many queries by default
    "ista": "ista[steps=40]",
    "ista-first": "ista-first[steps=40]",
    "ista-ehr": "ista-ehr[steps=10]",
    "ista-aa": "ista-aa[steps=10]",
    "spsa": "spsa[pairs=64]",
    "square": "square[queries=300]",
    "strict": "strict[budget=quick]",
    "band-limited": "band-limited[steps=20,rate=125]",  # these tasks state no rate
    "baseline-wander": "baseline-wander[steps=20,rate=125]",
    "static-study": "static-study[threat=linf[source_classes=C0,target=C1]]",  # theirs are a dataset's
    "adaptive-study": "adaptive-study[threat=linf[source_classes=C0,target=C1]]",
}
ATTACK_VARIANTS = (
    "pgd[loss=margin]",
    "pgd[loss=targeted-margin]",
    "pgd[update=adamax]",
    "pgd[start=zero,restarts=2]",
    "noise[draws=1]",
)
MODEL_VARIANTS = (
    "cnn[layout=conv1d]",
    "cnn[width=8,blocks=1]",
    "mlp[widths=(8,)]",
    "lstm[readout=last-position]",
    "lstm[axis=features]",
    "lstm[double_softmax=true]",
)
DEFENSE_VARIANTS = (
    "none[keep=best]",
    "none[keep=best,patience=1,balanced=false]",
    "adaptive[threat=l2,eps=0.5]",
    "adaptive[clean=0]",
    "adaptive[attack=fgsm]",
    "none[recipe=code]",
    "mse-margin[recipe=text]",
    "nsr1[recipe=code]",
    "nsr[recipe=code]",
    "jacobian[recipe=code]",
    "jacobian[norm=frobenius]",
    "adversarial-nsr[recipe=code]",
    "ibp[wait=0,warmup=0]",
    "static[examples=each-epoch,per_class=20,weighted=true]",
)
STUDY = {"mse", "mse-margin", "nsr", "nsr1", "nsr2", "jacobian", "adversarial-nsr", "madry", "trades", "ibp"}


VOLUMES = {"mrnet", "mrnet-small", "mrnet-ensemble"}  # of models, asked on volumes by their own tests
IMAGES = {"augmentation", "fgsm-augmentation", "fgsm-augmentation-study", "plane-ensemble"}  # of defenses, likewise
FOREIGN = {"torchattacks", "foolbox", "art"}  # adapters of optional libraries; tests/adapters is about them


def own(kind: str) -> list[str]:
    """Names of what this distribution offers by itself."""
    offers = [CATALOG.lookup(kind, name) for name in CATALOG.names(kind)]
    return [
        INSTEAD.get(entry.name, entry.name)
        for entry in offers
        if "ecgbench_plugins" in entry.origin and entry.plugin not in FOREIGN
    ]


@pytest.mark.parametrize("selector", [*own("attack"), *ATTACK_VARIANTS])
def test_a_builtin_attack_keeps_its_promises(selector: str) -> None:
    check_attack(CATALOG.resolve("attack", selector), expected=WEAK.get(selector.split("[", maxsplit=1)[0], {}))


@pytest.mark.parametrize("selector", [*(name for name in own("model") if name not in VOLUMES), *MODEL_VARIANTS])
def test_a_builtin_model_keeps_its_promises(selector: str) -> None:
    check_model(CATALOG.resolve("model", selector))


@pytest.mark.parametrize("selector", [*(name for name in own("defense") if name not in IMAGES), *DEFENSE_VARIANTS])
def test_a_builtin_defense_keeps_its_promises(selector: str) -> None:
    defense = CATALOG.resolve("defense", selector)
    check_defense(replace(defense, epochs=3) if isinstance(defense, Schedule) else defense)


@pytest.mark.parametrize(
    "selector",
    [
        *("synthetic-beats", "synthetic-beats[beats=1000,seed=3]"),
        *("synthetic-rhythms", "synthetic-rhythms[strips=200,seed=3]"),
        *("synthetic-icu", "synthetic-icu[stays=300,seed=3,inputs=values-observed,attackable=observed]"),
    ],
)
def test_a_builtin_synthetic_set_keeps_its_promises(selector: str) -> None:
    check_dataset(CATALOG.resolve("dataset", selector))


@pytest.mark.real
@pytest.mark.skipif(RECORDINGS is None, reason="needs recordings in $ECGBENCH_DATA")
@pytest.mark.parametrize(
    "selector", ["mitbih", "mitbih[split=inter-patient]", "cinc2017", "cinc2017[split=han]", "icu2012"]
)
def test_the_real_recordings_keep_their_promises(selector: str, tmp_path: Path) -> None:
    assert RECORDINGS is not None
    check_dataset(CATALOG.resolve("dataset", selector), DataRoot(Path(RECORDINGS), cache=tmp_path))


def test_no_builtin_plugin_is_forgotten_or_broken() -> None:
    ours = (plugin for plugin in CATALOG.plugins if "ecgbench_plugins" in plugin.origin and plugin.name not in FOREIGN)
    assert all(plugin.ok for plugin in ours)
    assert set(own("dataset")) == {
        "synthetic-beats",
        "synthetic-rhythms",
        "synthetic-icu",
        "mitbih",
        "cinc2017",
        "icu2012",
        "mimic3",
        "mrnet",
        "synthetic-knee",
    }
    assert {"identity", "noise", "fgsm", "pgd", "pgd20", "pgd100"} <= set(own("attack"))
    assert {"linear", "mlp", "cnn"} <= set(own("model")) and STUDY | {"none", "adaptive"} <= set(own("defense"))
