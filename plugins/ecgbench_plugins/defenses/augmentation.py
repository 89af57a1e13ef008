"""Training on shifted, turned and mirrored images; what an exam is turned by holds for all of its slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import pi
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from ecgbench import (
    Batch,
    Checkpoint,
    Defense,
    EcgbenchError,
    RandomStream,
    Samples,
    Schedule,
    Task,
    Victim,
    chunks,
    evaluating,
    hookimpl,
    train,
)

Rows = TypeVar("Rows", bound=Batch)


@dataclass(frozen=True)
class Augmentation:
    """Each with probability 1/2, in this order: a shift, a turn, a mirror image; one draw for all of a sample.

    A shift is up to `shift` of each side, a turn up to `turn` degrees, both uniform; the mirror is left-right. What
    comes from outside is 0. Values are the public MRNet study's (25 of 256 pixels, 25 degrees), in one bilinear step
    where that rounds to pixels and degrees and takes cubic splines, which leave the range of the values.
    """

    shift: float = 25 / 256
    turn: float = 25.0
    mirror: bool = True

    def __call__(self, batch: Rows, rng: RandomStream) -> Rows:
        """`batch` with other x (n, ..., height, width); drawn by ids, one draw a row."""
        if not len(batch):
            return batch
        moves = self.matrices(batch.ids, batch.x.shape[-2:], rng).to(batch.x.device)
        images = batch.x.flatten(1, -3)
        grid = affine_grid(moves, list(images.shape), align_corners=False)
        return replace(batch, x=grid_sample(images, grid, align_corners=False).view_as(batch.x))

    def matrices(self, ids: Tensor, sides: torch.Size, rng: RandomStream) -> Tensor:
        """Where each place of a new image is taken from, (n, 2, 3), in halves of width and height from the middle."""
        height, width = sides
        lot = rng.uniform(ids, (6,))
        moved, turned, mirrored = (lot[:, :3] < 0.5).unbind(1)
        across, up = ((4 * lot[:, 3:5] - 2) * self.shift * moved[:, None]).unbind(1)
        angle = (2 * lot[:, 5] - 1) * self.turn * pi / 180 * turned
        side = torch.where(mirrored & self.mirror, -1.0, 1.0)
        cos, sin = angle.cos(), angle.sin()
        rows = [side * cos, sin * height / width, -across, -side * sin * width / height, cos, -up]
        return torch.stack(rows, 1).view(-1, 2, 3)


@dataclass(frozen=True)
class Augmented(Schedule, Defense):
    """Training from the beginning for two classes as the public MRNet study trains its baselines.

    Cross-entropy in which each class weighs as much as the other one is frequent. With `keep=best`, as the study has
    it, that epoch is kept whose AUROC on validation is highest: of few exams that may be one of the first, which ranks
    well and decides nothing. `augment` changes every batch by `Augmentation`, as the study does.
    """

    epochs: int = 14
    batch: int = 4
    lr: float = 1e-3
    optimizer: Literal["adamax", "adam"] = "adam"
    balanced: bool = False
    keep: Literal["last", "best"] = "last"
    cosine_lr: bool = True
    augment: bool = False

    def unfit(self, task: Task) -> str | None:
        return misfit(task, self.augment)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        weight = class_weights(task.train.y)
        change = Augmentation() if self.augment else None

        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            batch = batch if change is None else change(batch, step.fold_in("augmentation"))
            return weighted_loss(Victim(module).logits(batch.x, batch, step), batch.y, weight)

        return train(model, task, loss, self, rng, checkpoint, score=auroc)


def misfit(task: Task, augment: bool) -> str | None:
    """Why neither AUROC nor, if asked for, augmentation is defined on `task`; None where they are."""
    if len(task.classes) != 2 or any(len(part.y.unique()) != 2 for part in (task.train, task.val)):
        return f"it selects by AUROC; {task.name} has not two classes with samples of both to train and validate on."
    if not augment:
        return None
    if len(task.shape) < 3:
        return f"augmentation turns images; samples of {task.name} have shape {task.shape}: expected augment=no."
    if any(part.mask.shape[-2:] != (1, 1) for part in (task.train, task.val)):
        return f"augmentation moves pixels, and the mask of {task.name} differs by pixel: expected augment=no."
    return None


def class_weights(y: Tensor) -> Tensor:
    """The weight of each of two classes, the share of the other one: (2,) float32."""
    positive = y.float().mean()
    return torch.stack([positive, 1 - positive])


def weighted_loss(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Mean over samples of the weighted cross-entropy, not divided by the weights, as the study codes it."""
    return (weight.to(y.device)[y] * cross_entropy(logits, y, reduction="none")).mean()


def auroc(module: Module, samples: Samples, rng: RandomStream) -> float:
    """Area under the ROC curve of the second of two classes, ties counting half (Hanley and McNeil 1982)."""
    from scipy.stats import rankdata

    if len(samples.y.unique()) != 2:
        raise EcgbenchError("samples of one class were given to choose by AUROC; expected some of both.")
    with evaluating(module) as victim, torch.no_grad():
        rows = torch.arange(len(samples), device=samples.y.device)
        batches = (samples[piece] for piece in chunks(rows, tuple(samples.x.shape[1:])))
        parts = [victim.logits(batch.x, batch, rng) for batch in batches]
    logits, holds = torch.cat(parts).cpu().double(), samples.y.cpu() == 1
    rank = torch.from_numpy(rankdata((logits[:, 1] - logits[:, 0]).numpy()))
    yes, no = int(holds.sum()), int((~holds).sum())
    return float((rank[holds].sum() - yes * (yes + 1) / 2) / (yes * no))


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"augmentation": Augmented()}
