"""Attacks of torchattacks (Kim 2020, https://github.com/Harry24k/adversarial-attacks-pytorch) by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecgbench.data import Task
from ecgbench.hookspecs import hookimpl
from ecgbench.interfaces import Attack
from ecgbench.threat import Threat
from ecgbench_plugins.attacks.foreign import BOTH, Foreign, Question, Traits, offered
from ecgbench_plugins.attacks.foreign_signature import Parameter
from ecgbench_plugins.attacks.foreign_view import picture

ALPHA = frozenset({"alpha"})
SQUARES = "it resizes square images and crops them"


def steps(**more: Any) -> Traits:
    """An L-inf attack of gradient steps: rows stay in order, `alpha` is a length."""
    return Traits(**{"image": True, "lengths": ALPHA, **more})


TABLE: Mapping[str, Traits] = {
    "APGD": Traits(BOTH, single=True, image=True, targeted="never"),
    "APGDT": Traits(BOTH, single=True, image=True, targeted="never", classes=4),
    "AutoAttack": Traits(
        BOTH, single=True, image=True, targeted="never", classes=4, more=(Parameter("steps", 100, "int"),)
    ),
    "BIM": steps(),
    "CW": Traits(("l2",), minimal=True, coupled=True, image=True, inner=True, positive=True),
    "DIFGSM": steps(coupled=True, shape="square", signal=True),
    "DeepFool": Traits(("l2",), minimal=True, single=True, image=True, targeted="never"),
    "EADEN": Traits(("l2",), minimal=True, coupled=True, image=True, positive=True),
    "EADL1": Traits(("l2",), minimal=True, coupled=True, image=True, positive=True),
    "EOTPGD": steps(coupled=True),
    "FAB": Traits(BOTH, single=True, image=True, targeted="never"),
    "FFGSM": steps(coupled=True),
    "FGSM": Traits(image=True),
    "GN": Traits(BOTH, access="score", minimal=True, coupled=True, image=True, targeted="never"),
    "JSMA": Traits(("l2",), minimal=True, single=True, image=True, signal=True, most=2048),
    "Jitter": steps(coupled=True),
    "LGV": Traits(refused="it trains further networks on a data loader of its own"),
    "MIFGSM": steps(),
    "NIFGSM": steps(),
    "OnePixel": Traits(("l2",), access="score", minimal=True, single=True, image=True, signal=True),
    "PGD": steps(coupled=True),
    "PGDL2": steps(norms=("l2",), coupled=True),
    "PGDRS": steps(single=True, coupled=True),
    "PGDRSL2": steps(norms=("l2",), single=True, coupled=True),
    "PIFGSM": Traits(shape="colour", image=True, signal=True, coupled=True, targeted="never"),
    "PIFGSMPP": Traits(shape="colour", image=True, signal=True, coupled=True),
    "Pixle": Traits(("l2",), access="score", minimal=True, single=True, image=True, signal=True, shape="image"),
    "RFGSM": steps(coupled=True),
    "SINIFGSM": steps(signal=True),
    "SPSA": Traits(access="score", single=True, image=True, lengths=frozenset({"delta", "lr"})),
    "SparseFool": Traits(("l2",), minimal=True, single=True, image=True, signal=True, targeted="never"),
    "Square": Traits(BOTH, access="score", single=True, image=True, targeted="never"),
    "TIFGSM": steps(coupled=True, shape="colour", signal=True),
    "TPGD": steps(coupled=True, targeted="never"),
    "UPGD": steps(coupled=True),
    "VANILA": Traits(BOTH, access="score", image=True, targeted="never"),
    "VMIFGSM": steps(coupled=True),
    "VNIFGSM": steps(coupled=True),
}
"""All attacks of torchattacks 3.5.1 but MultiAttack, which is made of attacks and not of numbers."""


@dataclass(frozen=True)
class TorchAttack(Foreign):
    """An attack of torchattacks; it sees images, a lead being a channel of height 1."""

    def least_classes(self) -> int:
        loss, version = getattr(self, "loss", ""), getattr(self, "version", "")
        return 4 if version == "plus" else max(self.traits.classes, 3 if loss == "dlr" else 2)

    def unfit(self, task: Task, threat: Threat) -> str | None:
        flat = len(task.shape) != 3 or task.shape[1] == 1
        if flat and threat.norm == "l2" and type(self).__name__ in ("Square", "AutoAttack"):
            return f"{self.called} draws squares in l2 and needs images; samples of {task.name} are {task.shape}."
        return super().unfit(task, threat)

    def ask(self, question: Question) -> Tensor:
        import torchattacks

        name = type(self).__name__
        attack = getattr(torchattacks, name)(question.tap, **self._arguments(question))
        if name == "AutoAttack":  # as shipped its parts take 10 steps each, whatever the reference says
            for part in attack._autoattack.attacks:
                if hasattr(part, "steps"):
                    part.steps = question.parameters["steps"]
        label = question.label
        if name == "JSMA" and not question.targeted:
            label = (label + 1) % question.classes()  # its own way of leaving a class, which takes 10 for granted
        if question.targeted or name == "JSMA":
            attack.set_mode_targeted_by_label(quiet=True)
        answer = attack(picture(question.u), label)
        return answer if isinstance(answer, Tensor) else torch.as_tensor(answer)

    def _arguments(self, question: Question) -> dict[str, Any]:
        """The constructor's arguments: the caller's and the host's."""
        host = {
            "eps": question.eps,
            "max_epsilon": question.eps,
            "norm": "Linf" if question.norm == "linf" else "L2",
            "seed": question.seed,
        }
        ours = {each.name for each in self.traits.more}
        own = {name: value for name, value in question.parameters.items() if name not in ours}
        if "n_classes" in self.given:
            own["n_classes"] = question.classes()
        return own | {name: value for name, value in host.items() if name in self.given}


ATTACKS = offered(
    TorchAttack,
    "torchattacks",
    "torchattacks",
    ".",
    TABLE,
    "install it with `pip install --no-deps torchattacks==3.5.1`, without which pip would replace torch",
)
globals().update({name: type(attack) for name, attack in ATTACKS.items()})  # where pickle looks for their classes


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {f"torchattacks.{name}": attack for name, attack in ATTACKS.items()}
