"""Attacks of foolbox (Rauber et al. 2020, https://github.com/bethgelab/foolbox) by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ecgbench.hookspecs import hookimpl
from ecgbench.interfaces import Attack
from ecgbench_plugins.attacks.foreign import BOTH, Foreign, Question, Traits, offered
from ecgbench_plugins.attacks.foreign_signature import Parameter
from ecgbench_plugins.attacks.foreign_view import picture

STEP = frozenset({"abs_stepsize"})
NUMBA = None if importlib.util.find_spec("numba") else "it needs numba (pip install numba)"
MINIMAL_L1 = Traits(("l2",), minimal=True, coupled=True)
SEARCH = Traits(("l2",), access="score", minimal=True, single=True, signal=True)
NOISE = Traits(("l2",), access="score", coupled=True, targeted="never")
LINF_NOISE = replace(NOISE, norms=("linf",), loose=True)  # scaled by its largest value, not its largest size
CONTRAST = Traits(BOTH, access="score", minimal=True, single=True, signal=True, targeted="never")


def steps(norm: str, **more: Any) -> Traits:
    """A method of gradient steps in one norm; its random start is shared by no rows, but drawn by place."""
    return Traits(**{"norms": ("linf",) if norm == "linf" else ("l2",), "coupled": True, "lengths": STEP, **more})


def _l1() -> Traits:
    return Traits(refused="its budget is an L1 norm, and no threat here has one")


TABLE: Mapping[str, Traits] = {
    "BinarizationRefinementAttack": Traits(refused="it only refines the adversarial signals of another attack"),
    "BinarySearchContrastReductionAttack": CONTRAST,
    "BoundaryAttack": SEARCH,
    "DDNAttack": Traits(("l2",), minimal=True),
    "DatasetAttack": Traits(refused="it replaces a signal by one of another class and keeps to no size"),
    "EADAttack": MINIMAL_L1,
    "GaussianBlurAttack": Traits(refused="it blurs images of two dimensions"),
    "GenAttack": Traits(access="score", single=True, targeted="only"),
    "HopSkipJumpAttack": Traits(BOTH, access="score", minimal=True, single=True, signal=True),
    "InversionAttack": CONTRAST,
    "L0BrendelBethgeAttack": Traits(("l2",), minimal=True, single=True, signal=True, refused=NUMBA),
    "L0FMNAttack": Traits(refused="foolbox cannot reduce L0 norms yet"),
    "L1AdamBasicIterativeAttack": _l1(),
    "L1AdamProjectedGradientDescentAttack": _l1(),
    "L1BasicIterativeAttack": _l1(),
    "L1BrendelBethgeAttack": Traits(("l2",), minimal=True, single=True, signal=True, refused=NUMBA),
    "L1FMNAttack": MINIMAL_L1,
    "L1FastGradientAttack": _l1(),
    "L1MomentumIterativeFastGradientMethod": _l1(),
    "L1ProjectedGradientDescentAttack": _l1(),
    "L2AdamBasicIterativeAttack": steps("l2"),
    "L2AdamProjectedGradientDescentAttack": steps("l2"),
    "L2AdditiveGaussianNoiseAttack": NOISE,
    "L2AdditiveUniformNoiseAttack": NOISE,
    "L2BasicIterativeAttack": steps("l2"),
    "L2BrendelBethgeAttack": Traits(("l2",), minimal=True, single=True, signal=True, refused=NUMBA),
    "L2CarliniWagnerAttack": Traits(("l2",), minimal=True, coupled=True),
    "L2ClippingAwareAdditiveGaussianNoiseAttack": NOISE,
    "L2ClippingAwareAdditiveUniformNoiseAttack": NOISE,
    "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack": NOISE,
    "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack": NOISE,
    "L2ContrastReductionAttack": Traits(("l2",), access="score", single=True, signal=True, targeted="never"),
    "L2DeepFoolAttack": Traits(("l2",), minimal=True, coupled=True, targeted="never"),
    "L2FMNAttack": Traits(("l2",), minimal=True),
    "L2FastGradientAttack": steps("l2", targeted="never"),
    "L2MomentumIterativeFastGradientMethod": steps("l2"),
    "L2ProjectedGradientDescentAttack": steps("l2"),
    "L2RepeatedAdditiveGaussianNoiseAttack": NOISE,
    "L2RepeatedAdditiveUniformNoiseAttack": NOISE,
    "LInfFMNAttack": Traits(minimal=True),
    "LinearSearchBlendedUniformNoiseAttack": Traits(
        BOTH, access="score", minimal=True, single=True, signal=True, targeted="never"
    ),
    "LinearSearchContrastReductionAttack": CONTRAST,
    "LinfAdamBasicIterativeAttack": steps("linf"),
    "LinfAdamProjectedGradientDescentAttack": steps("linf"),
    "LinfAdditiveUniformNoiseAttack": LINF_NOISE,
    "LinfBasicIterativeAttack": steps("linf"),
    "LinfDeepFoolAttack": Traits(minimal=True, coupled=True, targeted="never"),
    "LinfFastGradientAttack": steps("linf", targeted="never"),
    "LinfMomentumIterativeFastGradientMethod": steps("linf"),
    "LinfProjectedGradientDescentAttack": steps("linf"),
    "LinfRepeatedAdditiveUniformNoiseAttack": LINF_NOISE,
    "LinfinityBrendelBethgeAttack": Traits(minimal=True, single=True, signal=True, refused=NUMBA),
    "NewtonFoolAttack": Traits(("l2",), minimal=True, signal=True, targeted="never"),
    "PointwiseAttack": Traits(refused="foolbox's own code misses a part of it (PointwiseAttack._distance)"),
    "SaltAndPepperNoiseAttack": Traits(
        ("l2",), access="score", minimal=True, single=True, signal=True, image=True, targeted="never"
    ),
    "SparseL1DescentAttack": _l1(),
    "SpatialAttack": Traits(refused="it turns and shifts images of two dimensions and keeps to no size"),
    "VirtualAdversarialAttack": Traits(("l2",), coupled=True, targeted="never", more=(Parameter("steps", 10, "int"),)),
}
"""All attacks of foolbox 3.3."""

ALIASES = {
    "AdamPGD": "LinfAdamProjectedGradientDescentAttack",
    "FGM": "L2FastGradientAttack",
    "FGSM": "LinfFastGradientAttack",
    "L1AdamPGD": "L1AdamProjectedGradientDescentAttack",
    "L1PGD": "L1ProjectedGradientDescentAttack",
    "L2AdamPGD": "L2AdamProjectedGradientDescentAttack",
    "L2PGD": "L2ProjectedGradientDescentAttack",
    "LinfAdamPGD": "LinfAdamProjectedGradientDescentAttack",
    "LinfFMNAttack": "LInfFMNAttack",
    "LinfPGD": "LinfProjectedGradientDescentAttack",
    "MIFGSM": "LinfMomentumIterativeFastGradientMethod",
    "PGD": "LinfProjectedGradientDescentAttack",
}
"""foolbox's second names, and the spelling of LInfFMNAttack that all its siblings have."""


@dataclass(frozen=True)
class FoolboxAttack(Foreign):
    """An attack of foolbox."""

    def ask(self, question: Question) -> Tensor:
        import foolbox

        u = picture(question.u) if self.traits.image else question.u
        model = foolbox.PyTorchModel(question.tap, bounds=(0, 1), device=u.device)
        goal = foolbox.criteria.TargetedMisclassification if question.targeted else foolbox.criteria.Misclassification
        attack = getattr(foolbox.attacks, type(self).__name__)(**self._arguments(question))
        more: dict[str, Any] = {} if self.minimal else {"epsilon": question.eps}
        if "init_attack" in self.given and self.traits.single:
            start = self._start(model, u, goal(question.label))
            if start is None:
                return u
            more["starting_points"] = start
        return attack.run(model, u, goal(question.label), **more)

    def _arguments(self, question: Question) -> dict[str, Any]:
        import foolbox

        host = {
            "distance": foolbox.distances.linf if question.norm == "linf" else foolbox.distances.l2,
            "constraint": question.norm,
        }
        return dict(question.parameters) | {name: value for name, value in host.items() if name in self.given}

    def _start(self, model: Any, u: Tensor, criterion: Any) -> Tensor | None:
        """An adversarial signal to start a search from, as foolbox itself looks for it; None if there is none.

        foolbox would give up the whole batch where one row has none.
        """
        import foolbox

        search = foolbox.attacks.LinearSearchBlendedUniformNoiseAttack(
            distance=foolbox.distances.l2, directions=1000, steps=50
        )
        start = search.run(model, u, criterion)
        return start if bool(foolbox.attacks.base.get_is_adversarial(criterion, model)(start).all()) else None


ATTACKS = offered(
    FoolboxAttack, "foolbox", "foolbox", "attacks", TABLE, "install it with `pip install 'ecgbench[foolbox]'`"
)
globals().update({name: type(attack) for name, attack in ATTACKS.items()})  # where pickle looks for their classes


@hookimpl
def attacks() -> Mapping[str, Attack]:
    names = {name: name for name in ATTACKS} | {alias: name for alias, name in ALIASES.items() if name in ATTACKS}
    return {f"foolbox.{name}": ATTACKS[of] for name, of in names.items()}
