"""Published tables beside ours."""

from __future__ import annotations

from ecgbench.studies.comparison import Pair, Table, agreements, pairs, tables, whole_rows
from ecgbench.studies.figures import study_figures
from ecgbench.studies.study import ROW, Study, read_studies, read_study

__all__ = [
    "ROW",
    "Pair",
    "Study",
    "Table",
    "agreements",
    "pairs",
    "read_studies",
    "read_study",
    "study_figures",
    "tables",
    "whole_rows",
]
