"""Attacks of torchattacks (Kim 2020, https://github.com/Harry24k/adversarial-attacks-pytorch) by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ecgbench import Attack, Task, Threat, hookimpl
from ecgbench_plugins.attacks.adapters.base import AttackRequest, Library, LibraryAttack, offered
from ecgbench_plugins.attacks.adapters.signature import Parameter
from ecgbench_plugins.attacks.adapters.traits import BOTH, L2, Traits
from ecgbench_plugins.attacks.adapters.view import picture

TORCHATTACKS = Library(
    package="torchattacks",
    folder=".",
    distribution="torchattacks",
    advice="install it with `pip install --no-deps torchattacks==3.5.1`; it never uses what it asks for besides",
)

WORK = (Parameter("steps", 100, "int"), Parameter("queries", 5000, "int"))
"""Of each part of AutoAttack, as in the reference (Croce and Hein 2020). torchattacks passes none on: 10 steps, 5,000
queries."""

TABLE: Mapping[str, Traits] = {
    "APGD": Traits(BOTH, single=True, targeted="never"),
    "APGDT": Traits(BOTH, single=True, targeted="never", classes=4),
    "AutoAttack": Traits(BOTH, single=True, targeted="never", classes=4, more=WORK),
    "BIM": Traits(),
    "CW": Traits(L2, minimal=True, coupled=True, inner=True, positive=True),
    "DIFGSM": Traits(coupled=True, shape="square", signal=True),
    "DeepFool": Traits(L2, minimal=True, single=True, targeted="never"),
    "EADEN": Traits(L2, minimal=True, coupled=True, positive=True),
    "EADL1": Traits(L2, minimal=True, coupled=True, positive=True),
    "EOTPGD": Traits(coupled=True),
    "FAB": Traits(BOTH, single=True, targeted="never"),
    "FFGSM": Traits(coupled=True),
    "FGSM": Traits(),
    "GN": Traits(BOTH, access="score", minimal=True, coupled=True, targeted="never"),
    "JSMA": Traits(L2, minimal=True, single=True, signal=True, most=2048),
    "Jitter": Traits(coupled=True),
    "LGV": Traits(refused="it trains further networks on a data loader of its own"),
    "MIFGSM": Traits(),
    "NIFGSM": Traits(),
    "OnePixel": Traits(L2, access="score", minimal=True, single=True, signal=True),
    "PGD": Traits(coupled=True),
    "PGDL2": Traits(L2, coupled=True),
    "PGDRS": Traits(single=True, coupled=True),
    "PGDRSL2": Traits(L2, single=True, coupled=True),
    "PIFGSM": Traits(shape="colour", signal=True, coupled=True, targeted="never"),
    "PIFGSMPP": Traits(shape="colour", signal=True, coupled=True),
    "Pixle": Traits(L2, access="score", minimal=True, single=True, signal=True, shape="image"),
    "RFGSM": Traits(coupled=True),
    "SINIFGSM": Traits(signal=True),
    "SPSA": Traits(access="score", single=True, lengths=frozenset({"delta", "lr"})),
    "SparseFool": Traits(L2, minimal=True, single=True, signal=True, targeted="never"),
    "Square": Traits(BOTH, access="score", single=True, targeted="never"),
    "TIFGSM": Traits(coupled=True, shape="colour", signal=True),
    "TPGD": Traits(coupled=True, targeted="never"),
    "UPGD": Traits(coupled=True),
    "VANILA": Traits(BOTH, access="score", targeted="never"),
    "VMIFGSM": Traits(coupled=True),
    "VNIFGSM": Traits(coupled=True),
}
"""All attacks of torchattacks 3.5.1 but MultiAttack, which is made of attacks and not of numbers."""


@dataclass(frozen=True)
class TorchAttack(LibraryAttack):
    """An attack of torchattacks; it sees images, a lead being a channel of height 1."""

    lengths: ClassVar[frozenset[str]] = frozenset({"alpha"})

    def least_classes(self) -> int:
        loss, version = getattr(self, "loss", ""), getattr(self, "version", "")
        return 4 if version == "plus" else max(self.traits.classes, 3 if loss == "dlr" else 2)

    def unfit(self, task: Task, threat: Threat) -> str | None:
        flat = len(task.shape) != 3 or task.shape[1] == 1
        if flat and threat.norm == "l2" and type(self).__name__ in ("Square", "AutoAttack"):
            return f"{self.called} draws squares in l2 and needs images; samples of {task.name} are {task.shape}."
        return super().unfit(task, threat)

    def ask(self, request: AttackRequest) -> Tensor:
        import torchattacks

        name = type(self).__name__
        arguments = self.arguments(request, self._host(request))
        work = {each.name: arguments.pop(each.name) for each in self.traits.more}
        attack = getattr(torchattacks, name)(request.module, **arguments)
        if work:
            for part in attack._autoattack.attacks:
                if type(part).__name__ == "Square":
                    part.n_queries = work["queries"]
                else:
                    part.steps = work["steps"]
        label = request.label
        if name == "JSMA" and not request.targeted:
            label = (label + 1) % request.classes()  # its own way of leaving a class, which takes 10 for granted
        if request.targeted or name == "JSMA":
            attack.set_mode_targeted_by_label(quiet=True)
        answer = attack(picture(request.u), label)
        return answer if isinstance(answer, Tensor) else torch.as_tensor(answer)

    def _host(self, request: AttackRequest) -> dict[str, Any]:
        return {
            "eps": request.eps,
            "max_epsilon": request.eps,
            "norm": "Linf" if request.norm == "linf" else "L2",
            "seed": request.seed,
            "n_classes": request.classes() if "n_classes" in self.given else None,
        }


ATTACKS = offered(TorchAttack, TORCHATTACKS, TABLE, {})
globals().update({type(attack).__name__: type(attack) for attack in ATTACKS.values()})  # where pickle looks for them


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return ATTACKS
