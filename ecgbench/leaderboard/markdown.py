"""The Markdown of a leaderboard: its sections, rows and marks, from published results alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from math import isfinite

from ecgbench.checks.flags import FLAGS
from ecgbench.evaluation.metrics import Score
from ecgbench.evaluation.uncertainty import Spread
from ecgbench.leaderboard import figures as board_figures
from ecgbench.leaderboard.figures import FIGURES
from ecgbench.leaderboard.ranking import RankedVictim, flags, rounded
from ecgbench.leaderboard.sections import Section
from ecgbench.results.published import place
from ecgbench.results.record import SCHEMA, Record
from ecgbench.studies.comparison import Pair, Table, agreements, pairs, tables, whole_rows
from ecgbench.studies.figures import study_figures
from ecgbench.studies.study import Study

RESULTS = "results"
MISSING = "—"
REASON = 200  # characters of an error that a cell shows
_READING = """\
**The number to cite** is a victim's worst case over its attacks at the headline eps (bold), with its interval, from \
a row without flags; where `strict` has run, cite `strict`, which is the same set of attacks for every victim.

How to read it:

- All figures are fractions; PREC and F1 are macro means, AUC is the mean accuracy from eps 0 to the largest eps of \
its own row. ± is the standard deviation over training seeds, brackets hold the 95 % interval of one seed (the widest \
of several), — was not run.
- *Robust* at an eps counts a sample as right if no attack that ran at this eps makes it wrong; *decided by* is the \
strongest attack alone. Every such figure is an upper bound: a stronger attack may lower it.
- A victim's rank leads to its confusion matrices, clean and in the worst case at the headline eps.
- Flagged rows stand below unflagged ones, and a victim that is no better than chance when clean (ONECLASS, CHANCE) \
below all others. A victim is flagged for itself, or because none of its attacks is free of \
flags. `audited`: the costly checks, from BATCHDEP on in the table below, were made, too (`--audit`). \
Rows marked `partial` (not the whole test split) or `failed` (an attack broke off) have no rank.
"""
_SYNTHETIC = """\
# Synthetic data

**Synthetic data: the recordings below are made up. What follows shows that the software works; it says nothing about \
ECG classifiers in the clinic.**"""


def markdown(records: Sequence[Record], parts: Iterable[Section], studies: Iterable[Study]) -> str:
    """The page of these results, in their sections, and beside published studies."""
    lines = ["# Leaderboard", ""]
    if not records:
        return "\n".join([*lines, "No results yet.", ""])
    results = "1 result" if len(records) == 1 else f"{len(records)} results"
    lines += [f"{results}, records of schema {SCHEMA}.", "", _READING]
    lines += _table(["flag", "raised where"], [[f"`{code}`", meaning] for code, meaning in FLAGS.items()])
    made_up = False
    for section in parts:
        if section.synthetic and not made_up:
            lines += ["", _SYNTHETIC]
            made_up = True
        lines += ["", *_section(section)]
    for study in studies:
        lines += ["", *_study(study, records)]
    return "\n".join([*lines, ""])


def _section(section: Section) -> Iterator[str]:
    protocol = "" if section.protocol == "standard" else f", protocol {_text(section.protocol)}"
    yield f"## {_text(section.dataset)}, {_text(section.threat)}{protocol}, headline eps {_number(section.headline)}"
    yield ""
    yield from _terms(section)
    yield ""
    robust = [f"robust {_number(eps)}" for eps in section.epsilons]
    at = section.epsilons.index(section.headline)
    robust[at] = f"**{robust[at]}**"
    head = ["#", "model", "defense", "seeds", "n", "clean", *robust, f"interval at {_number(section.headline)}"]
    yield from _table([*head, "decided by", "flags"], [_victim(one, section) for one in section.victims])
    for model, name in board_figures.curves_names(section).items():
        yield from ("", f"![Robust accuracy of {_text(model)} over eps, a line for each defense]({FIGURES}/{name})")
    yield from ("", "Every attack by itself, ACC / PREC / F1:", "")
    head = ["model", "defense", "attack", "seed", "n", "clean", *(_number(eps) for eps in section.epsilons)]
    yield from _table([*head, "AUC", "flags", "row"], [_row(row.record, section.epsilons) for row in section.rows])


def _terms(section: Section) -> Iterator[str]:
    """What all rows of a section have in common, a line each."""
    if section.protocol != "standard":
        yield (
            f"- Protocol {_text(section.protocol)} is not the standard one: its rows compare with each other "
            "alone. What other attacks leave of the same victims stands in the other sections of this dataset."
        )
    record = section.scored
    if record is None:
        yield "- No row of this section has scores."
        return
    unit = "the unit of the signal" if record.unit == "1" else _text(record.unit)
    yield f"- eps in {unit}; classes {', '.join(_text(name) for name in record.classes)}."
    yield f"- Weighting: {_text(record.weighting.removesuffix('.'))}."
    if record.skip_unpredicted:
        yield "- A class that nobody predicts is left out of PREC."
    yield from (f"- Note: {_text(note.removesuffix('.'))}." for note in record.notes)


def _victim(one: RankedVictim, section: Section) -> list[str]:
    epsilons = section.epsilons
    seeds = f"{one.seeds}" if one.seeds == one.of else f"{one.seeds} of {one.of}"
    robust = [_spread(one.robust.get(eps)) for eps in epsilons]
    if one.status != "ok":
        robust[epsilons.index(one.headline)] = one.status
    low_high = MISSING if one.interval is None else f"[{_figure(one.interval[0])}, {_figure(one.interval[1])}]"
    return [
        _rank(one, section),
        _text(one.model),
        _text(one.defense),
        seeds,
        str(one.n) if one.n else MISSING,
        _spread(one.clean),
        *robust,
        low_high,
        MISSING if one.decided_by is None else _text(one.decided_by),
        _marks(one.flags, one.limit, one.audited, [f"failed: {attack}" for attack in one.failed]),
    ]


def _rank(one: RankedVictim, section: Section) -> str:
    rank = MISSING if one.rank is None else str(one.rank)
    name = board_figures.matrices_name(section, one)
    return rank if name is None else f"[{rank}]({FIGURES}/{name})"


def _row(record: Record, epsilons: Sequence[float]) -> list[str]:
    scores = [_score(record.score(eps)) for eps in (0.0, *epsilons)]
    if record.status != "ok":
        scores[0] = f"{record.status}: {_text((record.error or 'no reason is known')[:REASON])}"
    key = _text(record.key[:12])
    return [
        _text(record.model),
        _text(record.defense),
        _text(record.attack),
        str(record.seed),
        str(record.n) if record.n else MISSING,
        *scores,
        _figure(record.curve.auc) if record.curve else MISSING,
        _marks(flags(record), record.limit, record.audited, _fixed_by(record)),
        f"[{key}]({RESULTS}/{place(record).as_posix()})",
    ]


def _fixed_by(record: Record) -> list[str]:
    """A mark for outcomes that another chunking, or another run, would change."""
    return [] if record.determinism == "sample" else [f"determinism: {record.determinism}"]


def _study(study: Study, records: Sequence[Record]) -> Iterator[str]:
    """Published figures and ours: nothing if no row of ours stands beside them."""
    compared, rows = pairs(study, records), whole_rows(records)
    near = agreements(compared)
    if not near:
        return
    yield f"## Beside published figures: {_text(study.name)}"
    yield ""
    yield f"- {_text(study.citation)}."
    yield (
        f"- {_text(study.dataset)}, {_text(study.threat)}, protocol {_text(study.protocol)} unless a table says "
        "otherwise; ours / published."
    )
    for partial, found in near.items():
        how = "" if partial is None else f" (partial: {_text(partial)})"
        yield (
            f"- {found.compared} of {found.of} values stand beside ours{how}: mean absolute difference "
            f"{_figure(found.mean)}, largest {_figure(found.largest)}."
        )
    for table in tables(compared):
        if agreements(table.pairs):
            yield from _compared(table)
            for name, figure in study_figures(study, table, rows).items():
                yield from ("", f"![{_text(figure.title)}]({FIGURES}/{name})")


def _compared(table: Table) -> Iterator[str]:
    """One published table and ours."""
    near = [
        f"mean absolute difference {_figure(found.mean)}{'' if partial is None else ' (partial)'}"
        for partial, found in agreements(table.pairs).items()
        if found.compared
    ]
    yield from ("", f"{'; '.join([f'Table {_text(table.name)}', *map(_text, table.remarks), *near])}:", "")
    head = f"{_text(table.model)}, {_text(table.attack)}, {table.metric.upper()}"
    rows = [
        [_text(table.label(name)), *(_beside(row.get(eps)) for eps in table.epsilons)]
        for name, row in table.rows.items()
    ]
    yield from _table([head, *(_number(eps) for eps in table.epsilons)], rows)


def _beside(pair: Pair | None) -> str:
    if pair is None:
        return MISSING
    return f"{_spread(pair.ours)} / {_published(pair.theirs.value)}"


def _published(value: float) -> str:
    return format(Decimal(repr(value)).quantize(Decimal("0.01")), "f")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """No padding: a longer name changes its own line only."""
    for cells in (head, ["---"] * len(head), *rows):
        yield "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


def _marks(codes: Iterable[str], limit: int | None, audited: bool, more: Iterable[str]) -> str:
    facts = [name for name, true in (("partial", limit is not None), ("audited", audited)) if true]
    return ", ".join(_text(mark) for mark in (*codes, *facts, *more))


def _score(score: Score | None) -> str:
    return MISSING if score is None else " / ".join(_figure(one) for one in (score.acc, score.prec, score.f1))


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return MISSING
    return _figure(spread.mean) + ("" if spread.sd is None else f" ±{_figure(spread.sd)}")


def _figure(value: float) -> str:
    return str(rounded(value)) if isfinite(value) else MISSING


def _number(value: float) -> str:
    """An eps exactly as it was given, in decimals."""
    return format(Decimal(repr(float(value))).normalize(), "f")


def _text(text: str) -> str:
    """Text that Markdown shows as it is, in a cell or out of it, on one line."""
    line = "".join(char if char.isprintable() else " " for char in text)
    line = re.sub(r"([\\|`*])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;")
    return line.replace("](", "]\\(")
