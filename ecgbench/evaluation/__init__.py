"""An attack becomes outcomes, and outcomes become figures with their intervals."""

from __future__ import annotations

from ecgbench.evaluation.feasibility import check_feasible
from ecgbench.evaluation.guard import apart, generators_kept, guarded, heard, named
from ecgbench.evaluation.lending import AS_LENT, batch_change, module_change, same, tensors, unlabelled, unwritten
from ecgbench.evaluation.metrics import Curve, Score, confusion, summarize
from ecgbench.evaluation.outcomes import Outcomes, spent
from ecgbench.evaluation.perturbations import Perturbations, find_perturbations
from ecgbench.evaluation.sweep import STANDARD, Protocol, Sweep, check_grid
from ecgbench.evaluation.uncertainty import TAILS, Resamples, Spread, Uncertainty, check, compare, over_seeds
from ecgbench.evaluation.union import Attacked, alone, attacked

__all__ = [
    "AS_LENT",
    "STANDARD",
    "TAILS",
    "Attacked",
    "Curve",
    "Outcomes",
    "Perturbations",
    "Protocol",
    "Resamples",
    "Score",
    "Spread",
    "Sweep",
    "Uncertainty",
    "alone",
    "apart",
    "attacked",
    "batch_change",
    "check",
    "check_feasible",
    "check_grid",
    "compare",
    "confusion",
    "find_perturbations",
    "generators_kept",
    "guarded",
    "heard",
    "module_change",
    "named",
    "over_seeds",
    "same",
    "spent",
    "summarize",
    "tensors",
    "unlabelled",
    "unwritten",
]
