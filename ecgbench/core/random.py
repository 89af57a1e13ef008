"""Randomness that belongs to a sample, not to its place in a batch.

A draw is fixed by a path (seed, purpose, epoch, restart, ...), the sample's id and how often that id has
occurred in the batch before. So a sample meets the same noise in any batch size, order or process, and the
global generators are never touched. The hash is splitmix64 (Steele, Lea and Flood 2014), in int64 tensors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


Purpose = Literal[
    "attack",  # + seed: all that an attack and the judging of a sweep draw
    "train",  # + seed: the order of batches, augmentation, attacks inside a training
    "weights",  # + seed: the initial weights of a victim
    "rebuilt",  # a randomised victim, asked whether its weights determine it
    "precision",  # a randomised victim, asked whether bfloat16 is right for it
    "trial question",  # a user's model, asked for the first time
    "some of each class",  # which test samples a protocol counts
]
"""What the host draws for: the first word of every stream of its own. A plugin's datasets begin with their own name."""


@dataclass(frozen=True, slots=True)
class RandomStream:
    """A path of words and numbers that names one stream of draws; extend it with `fold_in`."""

    path: tuple[str | int | float, ...]

    def fold_in(self, *more: str | int | float) -> RandomStream:
        """The stream one or more steps further down the path."""
        return RandomStream(self.path + more)

    @property
    def seed(self) -> int:
        """A number in [0, 2**63) that stands for the path."""
        digest = hashlib.sha256(repr(self.path).encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def generator(self) -> torch.Generator:
        """A CPU generator of its own, for draws that belong to no sample (an epoch's order)."""
        return torch.Generator().manual_seed(self.seed)

    def uniform(self, ids: Tensor, shape: Sequence[int]) -> Tensor:
        """Uniform in (0, 1): ids (n,) -> (n, *shape) float32, on the device of `ids`.

        Drawn on the CPU, so every device sees the same numbers.
        """
        keys = ids.cpu()
        row = _mix(_mix(keys + self.seed) + _occurrence(keys))
        place = torch.arange(1, math.prod(shape) + 1) * _GOLDEN
        bits = _mix(row[:, None] + place)
        draws = (_shift(bits, 41).float() + 0.5) * 2.0**-23  # 24 bits in all: exact, so never 0, 0.5 or 1
        return draws.view(len(ids), *shape).to(ids.device)

    def normal(self, ids: Tensor, shape: Sequence[int]) -> Tensor:
        """Standard normal, by the inverse distribution function: ids (n,) -> (n, *shape) float32."""
        return torch.special.ndtri(self.uniform(ids, shape))

    def signs(self, ids: Tensor, shape: Sequence[int]) -> Tensor:
        """-1 or 1 with equal chance: ids (n,) -> (n, *shape) float32."""
        return (self.uniform(ids, shape) - 0.5).sign()


def stream(purpose: Purpose, *numbers: int) -> RandomStream:
    """What the host draws for a purpose follows this stream; the attack of seed 3 draws from `stream("attack", 3)`."""
    return RandomStream((purpose, *numbers))


def _occurrence(ids: Tensor) -> Tensor:
    """How often each id stood earlier in `ids`: [7, 3, 7, 7] -> [0, 0, 1, 2]."""
    order = torch.argsort(ids, stable=True)
    ranked = ids[order]
    place = torch.arange(len(ids))
    fresh = torch.ones_like(ranked, dtype=torch.bool)
    fresh[1:] = ranked[1:] != ranked[:-1]
    first = torch.where(fresh, place, 0).cummax(0).values if len(ids) else place
    return torch.empty_like(place).scatter_(0, order, place - first)


def _mix(bits: Tensor) -> Tensor:
    """splitmix64's output function of each number; a fresh tensor, worked on in place."""
    bits = bits + _GOLDEN
    bits.bitwise_xor_(_shift(bits, 30)).mul_(_FIRST)
    bits.bitwise_xor_(_shift(bits, 27)).mul_(_SECOND)
    return bits.bitwise_xor_(_shift(bits, 31))


def _shift(bits: Tensor, by: int) -> Tensor:
    """Logical shift to the right; torch's own keeps the sign."""
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)
