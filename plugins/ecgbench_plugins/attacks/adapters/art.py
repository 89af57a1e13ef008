"""Attacks of the Adversarial Robustness Toolbox (Nicolae et al. 2018, https://github.com/Trusted-AI) by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ecgbench import Attack, hookimpl
from ecgbench_plugins.attacks.adapters.base import AttackRequest, Library, LibraryAttack, offered
from ecgbench_plugins.attacks.adapters.signature import Parameter
from ecgbench_plugins.attacks.adapters.traits import BOTH, L2, Traits
from ecgbench_plugins.attacks.adapters.view import picture

ART = Library(
    package="art",
    folder="attacks/evasion",
    distribution="adversarial-robustness-toolbox",
    advice="install it with `pip install 'ecgbench-robustness[art]'`",
)
MULTIPROCESS = None if importlib.util.find_spec("multiprocess") else "it needs multiprocess (pip install multiprocess)"
PATCH = Traits(refused="it pastes a patch into images and keeps to no size")
DETECTOR = Traits(refused="it attacks object detectors")
SPEECH = Traits(refused="it attacks speech recognisers")
TENSORFLOW = Traits(refused="it attacks TensorFlow models")
FEATURES = Traits(refused="it needs guide signals and a layer of the victim")
PROBABILITIES = Traits(refused="it asks for probabilities, and a victim answers with logits")
MINIMAL = Traits(L2, minimal=True, single=True)
SEARCH = Traits(L2, access="score", minimal=True, single=True, signal=True)
STEPS = Traits(BOTH, coupled=True)  # by random starts, drawn by place
AUTO_STEPS = Traits(BOTH, single=True)

TABLE: Mapping[str, Traits] = {
    "AdversarialPatch": PATCH,
    "AdversarialPatchNumpy": PATCH,
    "AdversarialPatchPyTorch": PATCH,
    "AdversarialPatchTensorFlowV2": PATCH,
    "AdversarialTexturePyTorch": PATCH,
    "AutoAttack": replace(AUTO_STEPS, image=True, classes=3, refused=MULTIPROCESS),
    "AutoConjugateGradient": AUTO_STEPS,
    "AutoProjectedGradientDescent": AUTO_STEPS,
    "BasicIterativeMethod": Traits(coupled=True),
    "BoundaryAttack": SEARCH,
    "CarliniL0Method": replace(MINIMAL, image=True),
    "CarliniL2Method": MINIMAL,
    "CarliniLInfMethod": Traits(minimal=True, single=True),
    "CarliniWagnerASR": SPEECH,
    "CompositeAdversarialAttackPyTorch": Traits(refused="it turns, tints and brightens colour images"),
    "DPatch": DETECTOR,
    "DecisionTreeAttack": Traits(refused="it attacks decision trees"),
    "DeepFool": replace(MINIMAL, targeted="never"),
    "ElasticNet": MINIMAL,
    "FastGradientMethod": STEPS,
    "FeatureAdversariesNumpy": FEATURES,
    "FeatureAdversariesPyTorch": FEATURES,
    "FeatureAdversariesTensorFlowV2": FEATURES,
    "FrameSaliencyAttack": Traits(refused="it is a choice of frames round another attack"),
    "GRAPHITEBlackbox": PATCH,
    "GRAPHITEWhiteboxPyTorch": PATCH,
    "GeoDA": Traits(refused="ART's code of it needs a NumPy before 2.0"),
    "HighConfidenceLowUncertainty": Traits(refused="it attacks Gaussian processes"),
    "HopSkipJump": replace(SEARCH, norms=BOTH),
    "ImperceptibleASR": SPEECH,
    "ImperceptibleASRPyTorch": SPEECH,
    "LaserAttack": Traits(refused="it draws laser beams into images"),
    "LowProFool": Traits(refused="it needs the importance of every feature"),
    "MalwareGDTensorFlow": TENSORFLOW,
    "MomentumIterativeMethod": STEPS,
    "NewtonFool": replace(MINIMAL, signal=True, targeted="never"),
    "OverTheAirFlickeringPyTorch": Traits(refused="it flickers the colours of videos"),
    "OverloadPyTorch": DETECTOR,
    "PixelAttack": Traits(refused="it reads a signal as pixels from 0 to 255"),
    "ProjectedGradientDescent": STEPS,
    "ProjectedGradientDescentNumpy": STEPS,
    "ProjectedGradientDescentPyTorch": STEPS,
    "ProjectedGradientDescentTensorFlowV2": TENSORFLOW,
    "RescalingAutoConjugateGradient": AUTO_STEPS,
    "RobustDPatch": DETECTOR,
    "SNAL": DETECTOR,
    "SaliencyMapMethod": replace(MINIMAL, signal=True),
    "ShadowAttack": replace(MINIMAL, image=True, shape="colour"),
    "SignOPTAttack": replace(SEARCH, targeted="never"),
    "SimBA": PROBABILITIES,
    "SpatialTransformation": Traits(refused="it turns and shifts images and keeps to no size"),
    "SquareAttack": Traits(BOTH, access="score", single=True, image=True, targeted="never", shape="image"),
    "TargetedUniversalPerturbation": Traits(BOTH, single=True, targeted="only"),
    "ThresholdAttack": Traits(refused="it reads a signal as pixels from 0 to 255"),
    "UniversalPerturbation": Traits(BOTH, single=True, targeted="never"),
    "VirtualAdversarialMethod": PROBABILITIES,
    "Wasserstein": Traits(refused="its budget is a Wasserstein distance, and no threat here has one"),
    "ZooAttack": Traits(
        L2,
        access="score",
        minimal=True,
        single=True,
        more=(Parameter("use_resize", False, "bool"), Parameter("use_importance", False, "bool")),
    ),
}
"""All attacks of ART 1.20. A universal perturbation is here one for each signal."""

ALIASES = {"FGM": "FastGradientMethod", "PGD": "ProjectedGradientDescent", "ZOO": "ZooAttack"}


@dataclass(frozen=True)
class ArtAttack(LibraryAttack):
    """An attack of ART."""

    lengths: ClassVar[frozenset[str]] = frozenset({"eps_step"})

    def ask(self, request: AttackRequest) -> Tensor:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        u = picture(request.u) if self.traits.image else request.u
        classifier = PyTorchClassifier(
            model=request.module,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=tuple(u.shape[1:]),
            nb_classes=request.classes(),
            clip_values=(0.0, 1.0),
            device_type="gpu" if u.is_cuda else "cpu",
        )
        name = type(self).__name__
        attack = getattr(evasion, name)(classifier, **self.arguments(request, self._host(request)))
        label = request.label
        if name == "SaliencyMapMethod" and not request.targeted:
            label = (label + 1) % request.classes()  # it always aims; by itself it would draw the aim
        y = torch.nn.functional.one_hot(label, request.classes()).float().cpu().numpy()
        more: dict[str, Any] = {}
        if name in ("HopSkipJump", "BoundaryAttack"):
            start = self._start(request, getattr(self, "init_size", 100))
            if start is None:
                return request.u
            more["x_adv_init"] = start.cpu().numpy()
        return torch.from_numpy(np.asarray(attack.generate(x=u.cpu().numpy(), y=y, **more)))

    def _host(self, request: AttackRequest) -> dict[str, Any]:
        host: dict[str, Any] = {
            "eps": request.eps,
            "norm": np.inf if request.norm == "linf" else 2,
            "targeted": request.targeted,
            "batch_size": len(request.u),
            "verbose": False,
        }
        if type(self).__name__ == "TargetedUniversalPerturbation":  # else its inner FGSM leaves the target
            host["attacker_params"] = {"targeted": True, "eps": request.eps}
        return host

    def _start(self, request: AttackRequest, draws: int) -> Tensor | None:
        """An adversarial signal to start a search from, drawn as ART itself does but from a seeded generator."""
        many = torch.rand(draws, *request.u.shape[1:], device=request.u.device)
        with torch.no_grad():
            predicted = request.module(many).argmax(1)
        hit = (predicted == request.label) if request.targeted else (predicted != request.label)
        return many[hit][:1] if bool(hit.any()) else None


ATTACKS = offered(ArtAttack, ART, TABLE, ALIASES)
globals().update({type(attack).__name__: type(attack) for attack in ATTACKS.values()})  # where pickle looks for them


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return ATTACKS
