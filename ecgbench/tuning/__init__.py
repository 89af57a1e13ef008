"""Parameters of models, defenses and attacks are chosen on validation, by Optuna."""

from __future__ import annotations

from ecgbench.tuning.objectives import OBJECTIVES, objective
from ecgbench.tuning.question import Question
from ecgbench.tuning.space import Dimension, parse_dimension
from ecgbench.tuning.study import Tuning, open_study

__all__ = ["OBJECTIVES", "Dimension", "Question", "Tuning", "objective", "open_study", "parse_dimension"]
