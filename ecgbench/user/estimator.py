"""A fitted classifier of scikit-learn's kind as a module: its scores serve as logits, its labels as classes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import Module

from ecgbench.core.errors import EcgbenchError

LEAST = 1e-30  # a probability below counts as this one: its logarithm is finite
READINGS = ("decision_function", "predict_proba")


class ScoresAsLogits(Module):
    """A classifier of scikit-learn's kind: x (n, *shape), flattened, -> its decision function, or log-probabilities.

    Whichever agrees with `predict` first.
    """

    def __init__(self, estimator: Any) -> None:
        super().__init__()
        self.estimator = estimator
        self.reading = next((name for name in READINGS if hasattr(estimator, name)), READINGS[-1])

    def forward(self, x: Tensor) -> np.ndarray:
        return self.scores(self.reading, x)

    def scores(self, reading: str, x: Tensor) -> np.ndarray:
        """What `decision_function` or the logarithm of `predict_proba` gives for `x`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names of features, at every call
            found = getattr(self.estimator, reading)(_rows(x))
        return np.log(np.clip(found, LEAST, None)) if reading == "predict_proba" else np.asarray(found)

    def choose_reading(self, x: Tensor) -> None:
        """Choose how it is read. Raises EcgbenchError where neither way agrees with `predict` on `x`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predicted = np.asarray(self.estimator.predict(_rows(x)))
        labels = np.asarray(self.estimator.classes_)
        for reading in (name for name in READINGS if hasattr(self.estimator, name)):
            scores = self.scores(reading, x)
            best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
            if scores.shape[1:] in ((), (len(labels),)) and np.array_equal(labels[best], predicted):
                self.reading = reading
                return
        name = type(self.estimator).__name__
        raise EcgbenchError(f"predict of {name} disagrees with its scores; expected a classifier that follows them.")


def _rows(x: Tensor) -> np.ndarray:
    return np.asarray(x.detach().cpu().double().flatten(1).numpy())


def is_estimator(given: Any) -> bool:
    return not isinstance(given, Module | type) and any(hasattr(given, name) for name in READINGS)


@dataclass(frozen=True)
class ClassifierLabels:
    """What a classifier calls its classes, in the order of its scores."""

    known: list[Any]

    def places(self, y: Any) -> np.ndarray:
        """The place of each label of `y` (n,) among those known. Raises EcgbenchError for one that is not."""
        listed = y.tolist() if hasattr(y, "tolist") else list(y)
        place = {label: number for number, label in enumerate(self.known)}
        try:
            odd = next(((row, label) for row, label in enumerate(listed) if label not in place), None)
        except TypeError:
            raise EcgbenchError("y is no row of labels; expected (n,), one label of each sample.") from None
        if odd is not None:
            row, label = odd
            raise EcgbenchError(f"y holds {label!r} at sample {row}; the classifier knows {self.known}.")
        return np.array([place[label] for label in listed], dtype=np.int64)

    def names(self, given: tuple[str, ...] | None) -> tuple[str, ...]:
        """Names of the classes: those given, else its own. Raises EcgbenchError for another number of them."""
        names = given or tuple(map(str, self.known))
        if len(names) != len(self.known):
            raise EcgbenchError(f"classes {list(names)} are given; the classifier knows {self.known}.")
        return names
