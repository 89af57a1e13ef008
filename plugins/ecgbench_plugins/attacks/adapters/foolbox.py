"""Attacks of foolbox (Rauber et al. 2020, https://github.com/bethgelab/foolbox) by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from ecgbench import Attack, hookimpl
from ecgbench_plugins.attacks.adapters.base import AttackRequest, Library, LibraryAttack, offered
from ecgbench_plugins.attacks.adapters.signature import Parameter
from ecgbench_plugins.attacks.adapters.traits import BOTH, L2, LINF, Traits
from ecgbench_plugins.attacks.adapters.view import picture

FOOLBOX = Library("foolbox", "attacks", "foolbox", "install it with `pip install 'ecgbench-robustness[foolbox]'`")
NUMBA = None if importlib.util.find_spec("numba") else "it needs numba (pip install numba)"
MINIMAL_L1 = Traits(L2, minimal=True, coupled=True)
SEARCH = Traits(BOTH, access="score", minimal=True, single=True, signal=True)
BRENDEL_BETHGE = Traits(L2, minimal=True, single=True, signal=True, refused=NUMBA)
NOISE = Traits(L2, access="score", coupled=True, targeted="never")
LINF_NOISE = replace(NOISE, norms=LINF, loose=True)  # scaled by its largest value, not its largest size
CONTRAST = replace(SEARCH, targeted="never")
LINF_STEPS = Traits(coupled=True)  # by a random start, drawn by place
L2_STEPS = replace(LINF_STEPS, norms=L2)
L1_STEPS = Traits(refused="its budget is an L1 norm, and no threat here has one")

TABLE: Mapping[str, Traits] = {
    "BinarizationRefinementAttack": Traits(refused="it only refines the adversarial signals of another attack"),
    "BinarySearchContrastReductionAttack": CONTRAST,
    "BoundaryAttack": replace(SEARCH, norms=L2),
    "DDNAttack": Traits(L2, minimal=True),
    "DatasetAttack": Traits(refused="it replaces a signal by one of another class and keeps to no size"),
    "EADAttack": MINIMAL_L1,
    "GaussianBlurAttack": Traits(refused="it blurs images of two dimensions"),
    "GenAttack": Traits(access="score", single=True, targeted="only"),
    "HopSkipJumpAttack": SEARCH,
    "InversionAttack": CONTRAST,
    "L0BrendelBethgeAttack": BRENDEL_BETHGE,
    "L0FMNAttack": Traits(refused="foolbox cannot reduce L0 norms yet"),
    "L1AdamBasicIterativeAttack": L1_STEPS,
    "L1AdamProjectedGradientDescentAttack": L1_STEPS,
    "L1BasicIterativeAttack": L1_STEPS,
    "L1BrendelBethgeAttack": BRENDEL_BETHGE,
    "L1FMNAttack": MINIMAL_L1,
    "L1FastGradientAttack": L1_STEPS,
    "L1MomentumIterativeFastGradientMethod": L1_STEPS,
    "L1ProjectedGradientDescentAttack": L1_STEPS,
    "L2AdamBasicIterativeAttack": L2_STEPS,
    "L2AdamProjectedGradientDescentAttack": L2_STEPS,
    "L2AdditiveGaussianNoiseAttack": NOISE,
    "L2AdditiveUniformNoiseAttack": NOISE,
    "L2BasicIterativeAttack": L2_STEPS,
    "L2BrendelBethgeAttack": BRENDEL_BETHGE,
    "L2CarliniWagnerAttack": Traits(L2, minimal=True, coupled=True),
    "L2ClippingAwareAdditiveGaussianNoiseAttack": NOISE,
    "L2ClippingAwareAdditiveUniformNoiseAttack": NOISE,
    "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack": NOISE,
    "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack": NOISE,
    "L2ContrastReductionAttack": replace(CONTRAST, norms=L2, minimal=False),
    "L2DeepFoolAttack": Traits(L2, minimal=True, coupled=True, targeted="never"),
    "L2FMNAttack": Traits(L2, minimal=True),
    "L2FastGradientAttack": replace(L2_STEPS, targeted="never"),
    "L2MomentumIterativeFastGradientMethod": L2_STEPS,
    "L2ProjectedGradientDescentAttack": L2_STEPS,
    "L2RepeatedAdditiveGaussianNoiseAttack": NOISE,
    "L2RepeatedAdditiveUniformNoiseAttack": NOISE,
    "LInfFMNAttack": Traits(minimal=True),
    "LinearSearchBlendedUniformNoiseAttack": CONTRAST,
    "LinearSearchContrastReductionAttack": CONTRAST,
    "LinfAdamBasicIterativeAttack": LINF_STEPS,
    "LinfAdamProjectedGradientDescentAttack": LINF_STEPS,
    "LinfAdditiveUniformNoiseAttack": LINF_NOISE,
    "LinfBasicIterativeAttack": LINF_STEPS,
    "LinfDeepFoolAttack": Traits(minimal=True, coupled=True, targeted="never"),
    "LinfFastGradientAttack": replace(LINF_STEPS, targeted="never"),
    "LinfMomentumIterativeFastGradientMethod": LINF_STEPS,
    "LinfProjectedGradientDescentAttack": LINF_STEPS,
    "LinfRepeatedAdditiveUniformNoiseAttack": LINF_NOISE,
    "LinfinityBrendelBethgeAttack": replace(BRENDEL_BETHGE, norms=LINF),
    "NewtonFoolAttack": Traits(L2, minimal=True, signal=True, targeted="never"),
    "PointwiseAttack": Traits(refused="foolbox's own code misses a part of it (PointwiseAttack._distance)"),
    "SaltAndPepperNoiseAttack": replace(CONTRAST, norms=L2, image=True),
    "SparseL1DescentAttack": L1_STEPS,
    "SpatialAttack": Traits(refused="it turns and shifts images of two dimensions and keeps to no size"),
    "VirtualAdversarialAttack": Traits(L2, coupled=True, targeted="never", more=(Parameter("steps", 10, "int"),)),
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
class FoolboxAttack(LibraryAttack):
    """An attack of foolbox."""

    lengths: ClassVar[frozenset[str]] = frozenset({"abs_stepsize"})

    def ask(self, request: AttackRequest) -> Tensor:
        import foolbox

        u = picture(request.u) if self.traits.image else request.u
        model = foolbox.PyTorchModel(request.module, bounds=(0, 1), device=u.device)
        goal = foolbox.criteria.TargetedMisclassification if request.targeted else foolbox.criteria.Misclassification
        host = {
            "distance": foolbox.distances.linf if request.norm == "linf" else foolbox.distances.l2,
            "constraint": request.norm,
        }
        attack = getattr(foolbox.attacks, type(self).__name__)(**self.arguments(request, host))
        more: dict[str, Any] = {} if self.minimal else {"epsilon": request.eps}
        if "init_attack" in self.given and self.traits.single:
            start = self._start(model, u, goal(request.label))
            if start is None:
                return u
            more["starting_points"] = start
        return attack.run(model, u, goal(request.label), **more)

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


ATTACKS = offered(FoolboxAttack, FOOLBOX, TABLE, ALIASES)
globals().update({type(attack).__name__: type(attack) for attack in ATTACKS.values()})  # where pickle looks for them


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return ATTACKS
