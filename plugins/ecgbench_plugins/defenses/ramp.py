"""A quantity that grows over the first epochs of a training: the eps of an attack, the weight of a term."""

from __future__ import annotations

from ecgbench import EcgbenchError, Hook, RandomStream


class Ramp(Hook):
    """`share` is 0 for `wait` epochs, then k/length in epoch k of the next `length` ones, then 1."""

    def __init__(self, length: int, wait: int = 0) -> None:
        self.length, self.wait, self.share = length, wait, 0.0

    def begin_epoch(self, epoch: int, rng: RandomStream) -> None:
        done = epoch + 1 - self.wait
        self.share = max(0.0, min(1.0, done / self.length)) if self.length else float(done > 0)


def check_ramp(*epochs: int) -> None:
    """Raises EcgbenchError for a negative number of epochs."""
    if min(epochs) < 0:
        raise EcgbenchError(f"a warm-up of {min(epochs)} epochs given; expected 0 or more.")
