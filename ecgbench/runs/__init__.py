"""Cells are planned and executed: what is missing is made, what is there is found."""

from __future__ import annotations

from ecgbench.runs.cache import read_by
from ecgbench.runs.cell import Cell
from ecgbench.runs.explain import remember
from ecgbench.runs.faults import plain
from ecgbench.runs.job import CellJob, VictimJob, jobs, read_job, write_job
from ecgbench.runs.judging import EvaluationRequest, judged, several
from ecgbench.runs.runner import Runner
from ecgbench.runs.suite import Grid, parse_eps, parse_seeds, read_suite, unfold
from ecgbench.runs.zoo import CHECKPOINTS, STAGE, checkpoints, load_victim, published

__all__ = [
    "CHECKPOINTS",
    "STAGE",
    "Cell",
    "CellJob",
    "EvaluationRequest",
    "Grid",
    "Runner",
    "VictimJob",
    "checkpoints",
    "jobs",
    "judged",
    "load_victim",
    "parse_eps",
    "parse_seeds",
    "plain",
    "published",
    "read_by",
    "read_job",
    "read_suite",
    "remember",
    "several",
    "unfold",
    "write_job",
]
