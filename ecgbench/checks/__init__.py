"""Can a figure be believed? Cheap checks on every row, costly ones on demand, and the flags they raise."""

from __future__ import annotations

from ecgbench.checks.audit import Audit
from ecgbench.checks.chance import OF_CLEAN
from ecgbench.checks.cheap import CheapChecks
from ecgbench.checks.flags import BY_EFFECT, FLAGS, OF_AUDITS, OF_VICTIM
from ecgbench.checks.verdict import joined, lines_of_flags, lines_of_notes, lines_of_scores, sentence

__all__ = [
    "BY_EFFECT",
    "FLAGS",
    "OF_AUDITS",
    "OF_CLEAN",
    "OF_VICTIM",
    "Audit",
    "CheapChecks",
    "joined",
    "lines_of_flags",
    "lines_of_notes",
    "lines_of_scores",
    "sentence",
]
