"""A network for each plane trained by itself, then a logistic regression on what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench import (
    Checkpoint,
    Defense,
    EcgbenchError,
    NotInstalledError,
    RandomStream,
    Samples,
    Task,
    chunks,
    evaluating,
    hookimpl,
)
from ecgbench_plugins.defenses.augmentation import Augmented
from ecgbench_plugins.models.mrnet_ensemble import Ensemble, of_plane


@dataclass(frozen=True)
class PlaneEnsemble(Defense):
    """Trains the network of every plane of `mrnet-ensemble` by `each`, on its plane alone.

    A logistic regression of scikit-learn (L2 penalty of 1) is then fitted to their probabilities on the training
    samples as they are; the public MRNet study fits it with its augmentation active. Where `each` starts from a base,
    the ensemble of that base is trained first.
    """

    each: Defense = Augmented()

    @property
    def base(self) -> Defense | None:
        return None if self.each.base is None else replace(self, each=self.each.base)

    def unfit(self, task: Task) -> str | None:
        if len(task.shape) != 5:
            return f"it trains a network for each plane; samples of {task.name} have shape {task.shape}, not several."
        return self.each.unfit(of_plane(task, 0))

    def wrap(self, module: Module, task: Task) -> Module:
        ensemble = _ensemble(module)
        for plane, network in enumerate(ensemble.networks):
            ensemble.networks[plane] = self.each.wrap(network, of_plane(task, plane))
        return ensemble

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        ensemble = _ensemble(model)
        for plane, network in enumerate(ensemble.networks):
            seen, part = of_plane(task, plane), checkpoint.part(f"plane {plane}")
            ensemble.networks[plane] = self.each.fit(network, seen, rng.fold_in("plane", plane), part)
        _fit_head(ensemble, task.train)
        return ensemble.eval()


def _ensemble(module: Module) -> Ensemble:
    if not isinstance(module, Ensemble):
        raise EcgbenchError(f"a {type(module).__name__} was given to plane-ensemble; expected model mrnet-ensemble.")
    return module


def _fit_head(ensemble: Ensemble, samples: Samples) -> None:
    """Write a logistic regression on the probabilities of the networks into the head."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise NotInstalledError(
            "scikit-learn", "install it with `pip install 'ecgbench-robustness[ensemble]'`"
        ) from None
    found = LogisticRegression().fit(_probabilities(ensemble, samples).double().numpy(), samples.y.cpu().numpy())
    with torch.no_grad():
        ensemble.head.weight.copy_(torch.from_numpy(found.coef_))
        ensemble.head.bias.copy_(torch.from_numpy(found.intercept_))


def _probabilities(ensemble: Ensemble, samples: Samples) -> Tensor:
    """Of all samples, (n, planes), on the CPU."""
    device = ensemble.head.weight.device
    with evaluating(ensemble), torch.no_grad():
        rows = torch.arange(len(samples), device=samples.y.device)
        batches = (samples[piece].to(device) for piece in chunks(rows, tuple(samples.x.shape[1:])))
        return torch.cat([ensemble.probabilities(batch.x, batch.mask) for batch in batches]).cpu()


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"plane-ensemble": PlaneEnsemble()}
