"""Cells are planned and executed: what is missing is made, what is there is found."""

from __future__ import annotations

from ecgbench.runs.cache import read_by
from ecgbench.runs.cell import Cell
from ecgbench.runs.explain import remember
from ecgbench.runs.faults import plain
from ecgbench.runs.judging import Question, judged, several, signals_and_labels, task_of
from ecgbench.runs.runner import Runner
from ecgbench.runs.suite import Grid, parse_eps, parse_seeds, read_suite, unfold
from ecgbench.runs.zoo import CHECKPOINTS, STAGE, checkpoints, load_victim, published

__all__ = [
    "CHECKPOINTS",
    "STAGE",
    "Cell",
    "Grid",
    "Question",
    "Runner",
    "checkpoints",
    "judged",
    "load_victim",
    "parse_eps",
    "parse_seeds",
    "plain",
    "published",
    "read_by",
    "read_suite",
    "remember",
    "several",
    "signals_and_labels",
    "task_of",
    "unfold",
]
