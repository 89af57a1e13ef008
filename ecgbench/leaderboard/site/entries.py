"""A row as the site shows it: names beside selectors, figures, marks, and what makes it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ecgbench.core.errors import StoreError
from ecgbench.evaluation.metrics import Score
from ecgbench.leaderboard.badges import OWN
from ecgbench.leaderboard.naming import Names
from ecgbench.leaderboard.ranking import flags
from ecgbench.leaderboard.wording import MISSING, eps_in, figure, number, span
from ecgbench.results.published import Published, slug
from ecgbench.results.record import Record
from ecgbench.results.verification import is_older

BIBTEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "{}$&#_%"
}


@dataclass(frozen=True)
class Entry:
    """A published row; `id` is the name of its files, the beginning of its key. All but `id` and `row` are names."""

    id: str
    row: Published
    dataset: str
    victim: str
    model: str
    defense: str
    attack: str
    threat: str
    protocol: str
    older: bool

    @property
    def record(self) -> Record:
        """Its record."""
        return self.row.record

    @property
    def flags(self) -> tuple[str, ...]:
        """Codes of the raised checks."""
        return flags(self.record)

    @property
    def badge(self) -> str:
        """Who made the row, and how far it was checked."""
        return self.row.badge or OWN

    @property
    def best_known(self) -> float | None:
        """What counterexamples leave at the headline eps; None where there are none."""
        return self.row.best_known.get(self.record.headline)

    @property
    def clean(self) -> Score | None:
        """The score when clean."""
        return self.record.score(0.0)

    @property
    def robust(self) -> Score | None:
        """The score at the headline eps."""
        return self.record.score(self.record.headline)

    @property
    def marks(self) -> tuple[str, ...]:
        """What a reader must know beside flags."""
        record = self.record
        told = {
            record.status: record.status != "ok",
            "partial": record.limit is not None,
            "audited": record.audited,
            f"determinism: {record.determinism}": record.determinism != "sample",
            "older code": self.older,
        }
        return tuple(words for words, holds in told.items() if holds)

    @property
    def label(self) -> str:
        """The row in words."""
        parts = (self.dataset, self.victim, self.attack, self.threat, self.protocol, f"seed {self.record.seed}")
        return " · ".join(part for part in parts if part)

    @property
    def title(self) -> str:
        """The row in words that stand alone."""
        return f"{self.victim} under {self.attack}"

    @property
    def eps_unit(self) -> str:
        """What eps is measured in, nothing for the unit of the signal."""
        return eps_in(self.record)

    @property
    def command(self) -> str:
        """The command that makes the row again."""
        record = self.record
        words = ["ecgbench", "run", "--dataset", record.dataset, "--model", record.model, "--defense", record.defense]
        words += ["--attack", record.attack, "--threat", record.threat, "--protocol", record.protocol]
        words += ["--eps", ",".join(map(number, record.eps)), "--seed", str(record.seed)]
        words += [] if record.limit is None else ["--limit", str(record.limit)]
        words += ["--audit"] if record.audited else []
        return shlex.join(words)

    @property
    def bibtex(self) -> str:
        """An entry to cite the row by."""
        record, robust = self.record, self.robust
        said = "" if robust is None else f", accuracy {figure(robust.acc)} {span(robust.interval.acc)}"
        note = f"{self.label}{said} at eps {number(record.headline)}{self.eps_unit}; key {record.key}"
        version = record.provenance.versions.get("ecgbench", "") if record.provenance else ""
        return (
            f"@misc{{ecgbench-{self.id},\n"
            "  author = {{The ecgbench developers}},\n"
            f"  title = {{{{ecgbench}}: an honest robustness benchmark for {{ECG}} classifiers, row {self.id}}},\n"
            f"  note = {{{_bibtex(note)}}},\n"
            f"  version = {{{_bibtex(version)}}},\n}}\n"
        )


def entries(names: Names) -> list[Entry]:
    """All rows, in the order of the board. Raises StoreError where two keys begin alike."""
    rows = [row for part in names.parts for row in part.rows]
    models = names.titles.names("model", (row.record.model for row in rows))
    defenses = names.titles.names("defense", (row.record.defense for row in rows))
    made = [_entry(row, names, models, defenses) for row in rows]
    for one, other in _alike(made):
        paths = sorted(entry.row.path.as_posix() for entry in (one, other))
        raise StoreError(f"the keys of {paths[0]} and {paths[1]} begin alike; expected one row of each key.")
    return made


def figures(entry: Entry) -> dict[str, str]:
    """The figures of a row's line in the table of all rows, by column."""
    record, clean, robust, curve = entry.record, entry.clean, entry.robust, entry.record.curve
    median = curve and curve.smallest_eps.get("median")
    return {
        "eps": number(record.headline),
        "clean": MISSING if clean is None else figure(clean.acc),
        "robust": MISSING if robust is None else figure(robust.acc),
        "interval": MISSING if robust is None else span(robust.interval.acc),
        "known": figure(entry.best_known),
        "prec": MISSING if robust is None else figure(robust.prec),
        "f1": MISSING if robust is None else figure(robust.f1),
        "auc": MISSING if curve is None else figure(curve.auc),
        "median": MISSING if median is None else f"{median:g}",
        "n": str(record.n) if record.n else MISSING,
        "groups": MISSING if record.groups is None else str(record.groups),
        "queries": f"{record.cost.queries:g}" if record.scores else MISSING,
        "seconds": f"{record.cost.attack_seconds:.3g}" if record.scores else MISSING,
    }


def _entry(row: Published, names: Names, models: Mapping[str, str], defenses: Mapping[str, str]) -> Entry:
    record = row.record
    return Entry(
        id=slug(record.key[:12]),
        row=row,
        dataset=names.datasets[record.dataset],
        victim=names.victims[record.dataset][record.model, record.defense],
        model=models[record.model],
        defense=defenses[record.defense],
        attack=names.attacks[record.attack],
        threat=names.threats[record.threat],
        protocol=names.protocols[record.protocol],
        older=is_older(record),
    )


def _alike(made: Iterable[Entry]) -> Iterable[tuple[Entry, Entry]]:
    """Entries whose files would have the same name, on any file system."""
    seen: dict[str, Entry] = {}
    for entry in made:
        other = seen.setdefault(entry.id.lower(), entry)
        if other is not entry:
            yield other, entry


def _bibtex(text: str) -> str:
    return "".join(BIBTEX.get(sign, sign if sign.isprintable() else " ") for sign in text)
