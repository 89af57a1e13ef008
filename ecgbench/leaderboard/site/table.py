"""The columns of the table of all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ecgbench.leaderboard.site.entries import Entry, figures


@dataclass(frozen=True)
class Column:
    """A column: `shown` before a reader chooses; `filter`: rows can be chosen by its `words`."""

    name: str
    title: str
    shown: bool = True
    number: bool = False
    words: Callable[[Entry], tuple[str, ...]] = lambda _: ()

    @property
    def filter(self) -> bool:
        """Whether rows can be chosen by it."""
        return self.name in FILTERS


FILTERS = ("dataset", "threat", "protocol", "model", "defense", "attack", "seed", "flags", "badge", "marks")
COLUMNS = (
    Column("victim", "victim"),
    Column("attack", "attack", words=lambda entry: (entry.attack,)),
    Column("dataset", "dataset", words=lambda entry: (entry.dataset,)),
    Column("threat", "threat", words=lambda entry: (entry.threat,)),
    Column("protocol", "protocol", shown=False, words=lambda entry: (entry.protocol,)),
    Column("model", "model", shown=False, words=lambda entry: (entry.model,)),
    Column("defense", "defense", shown=False, words=lambda entry: (entry.defense,)),
    Column("seed", "seed", number=True, words=lambda entry: (str(entry.record.seed),)),
    Column("eps", "eps", number=True),
    Column("clean", "clean", number=True),
    Column("robust", "robust", number=True),
    Column("interval", "95 %", number=True),
    Column("known", "best known", shown=False, number=True),
    Column("prec", "PREC", shown=False, number=True),
    Column("f1", "F1", shown=False, number=True),
    Column("auc", "area", shown=False, number=True),
    Column("median", "median eps", shown=False, number=True),
    Column("n", "samples", shown=False, number=True),
    Column("groups", "patients", shown=False, number=True),
    Column("queries", "forwards", shown=False, number=True),
    Column("seconds", "seconds", shown=False, number=True),
    Column("flags", "flags", words=lambda entry: entry.flags),
    Column("badge", "badge", shown=False, words=lambda entry: (entry.badge,)),
    Column("marks", "marks", words=lambda entry: entry.marks),
)


def lines(every: Iterable[Entry]) -> list[tuple[Entry, dict[str, str]]]:
    """Each row and what it says in each column, by the column's name."""
    made = []
    for entry in every:
        words = {column.name: ", ".join(column.words(entry)) for column in COLUMNS}
        made.append((entry, words | figures(entry) | {"victim": entry.victim}))
    return made
