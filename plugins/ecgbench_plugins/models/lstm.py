"""A recurrent layer over a table of measurements by hour, and a dense head: the victim of the sparse-attack studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import GRU, LSTM, Dropout, Linear, Module
from torch.nn.utils.rnn import PackedSequence

from ecgbench import Model, Task, hookimpl

Activation = Literal["tanh", "relu"]
ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


@dataclass(frozen=True)
class Recurrent(Model):
    """Bidirectional LSTM or GRU over (time, features), activation, dropout, dense, activation, linear.

    Sun et al. 2018 (arXiv 1802.04822), as their public re-implementations code it. `axis` is the one along which the
    layer steps: "time", or "features", which reads all hours of one measurement at each step. `readout`: the "final"
    states of both directions, or both directions at the "last-position", where the backward one has seen one step only.

    Every feature is standardised inside the module, by its mean and standard deviation over the training split, so
    that an attack sees the samples in their own range. `double_softmax` trains on probabilities as if they were
    logits, as the re-implementations do: in train mode the module gives probabilities, in eval mode always logits.
    Raises ValueError for a parameter out of range.
    """

    default_dataset: ClassVar[str] = "synthetic-icu"
    cell: Literal["lstm", "gru"] = "lstm"
    hidden: int = 128
    activation: Activation = "tanh"
    dropout: float = 0.5
    dense: int = 32
    dense_activation: Activation = "relu"
    readout: Literal["final", "last-position"] = "final"
    axis: Literal["time", "features"] = "time"
    double_softmax: bool = False

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.dense < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"hidden={self.hidden}, dense={self.dense}, dropout={self.dropout} given; "
                "expected hidden and dense of 1 or more, and dropout of 0 or more and below 1"
            )

    def unfit(self, task: Task) -> str | None:
        if len(task.shape) != 2:
            return f"{self.cell} reads (time, features); this dataset's samples have shape {task.shape}."
        return None

    def build(self, task: Task) -> Module:
        return Network(self, task)


class Network(Module):
    """x (n, time, features) -> logits (n, classes)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: Recurrent, task: Task) -> None:
        super().__init__()
        time, features = task.shape
        self.along_features = model.axis == "features"
        self.final, self.double_softmax = model.readout == "final", model.double_softmax
        self.activation, self.dense_activation = ACTIVATIONS[model.activation], ACTIVATIONS[model.dense_activation]
        mean, deviation = statistics(task.train.x)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        layer = LSTM if model.cell == "lstm" else GRU
        width = time if self.along_features else features
        self.body = layer(width, model.hidden, batch_first=True, bidirectional=True)
        self.dropout = Dropout(model.dropout)
        self.dense = Linear(2 * model.hidden, model.dense)
        self.head = Linear(model.dense, len(task.classes))

    def train(self, mode: bool = True) -> Network:
        """As of any module; the recurrent layer, which has no dropout, stays in train mode.

        cuDNN gives no gradient through a recurrent layer in eval mode.
        """
        super().train(mode)
        self.body.train()
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.deviation
        states = self._states(x.transpose(1, 2) if self.along_features else x)
        logits = self.head(self.dense_activation(self.dense(self.dropout(self.activation(states)))))
        return logits.softmax(1) if self.training and self.double_softmax else logits

    def _states(self, steps: Tensor) -> Tensor:
        """What is read out of the recurrent layer over `steps` (n, steps, width), both directions: (n, 2 hidden).

        Packed sequences pass by oneDNN's layer, which has no second derivative and is slower where weights are frozen.
        """
        n, length = steps.shape[:2]
        packed = PackedSequence(steps.transpose(0, 1).flatten(0, 1), torch.full((length,), n))
        output, state = self.body(packed)
        if not self.final:
            return output.data[-n:]
        last = state[0] if isinstance(self.body, LSTM) else state
        return last.transpose(0, 1).flatten(1)


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature over samples and times: (n, time, features) -> (features,) each.

    A feature that never changes has deviation 1.
    """
    values = x.flatten(0, 1).double()
    deviation = values.std(0, correction=0)
    return values.mean(0).float(), torch.where(deviation > 1e-6, deviation, 1.0).float()


@hookimpl
def models() -> Mapping[str, Model]:
    sun2018 = Recurrent(readout="last-position", axis="features")
    tuned = Recurrent(activation="relu", dropout=0.303, dense=64, dense_activation="tanh", readout="last-position")
    return {"lstm": Recurrent(), "gru": Recurrent(cell="gru"), "lstm-sun2018": sun2018, "lstm-aa": tuned}
