"""Records as tables for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from ecgbench.cli.layout import across, fold
from ecgbench.evaluation.uncertainty import over_seeds
from ecgbench.results.record import Record

METRICS = ("acc", "prec", "f1")
AFTER_SUCCESS = (
    "* under attack of perturbations at their first success: higher than the attack could leave it; the protocol "
    "standard[success=last,sweep=independent,clean_wrong=attacked] goes on"
)


def tables(records: Iterable[Record]) -> str:
    """One table per dataset, threat, protocol and grid: every victim under an attack, over seeds."""
    ordered = sorted(records, key=_section)
    return "\n".join(_table(list(rows)) for _, rows in groupby(ordered, key=_section))


def _section(record: Record) -> tuple[object, ...]:
    return record.dataset, record.threat, record.protocol, record.eps, record.limit or 0


def _table(records: Sequence[Record]) -> str:
    done = [record for record in records if record.status == "ok"]
    lines = []
    if done:
        lines += [*_title(done[0]), "", *_scores(done), *_remarks(done)]
    lines += [
        fold(f"{record.status}: {_name(record)}, seed {record.seed}: {record.error}")
        for record in records
        if record not in done
    ]
    return "\n".join(lines) + "\n"


def _title(record: Record) -> tuple[str, str]:
    facts = [record.dataset, *record.notes, f"{record.n} test samples"]
    facts += [f"{record.groups} patients"] if record.groups else []
    facts += ["partial"] if record.limit else []
    return fold(", ".join(facts)), fold(f"threat {record.threat}, eps in {_unit(record)}; {record.weighting}")


def _unit(record: Record) -> str:
    return "units of x" if record.unit == "1" else record.unit


def _scores(records: Sequence[Record]) -> Iterator[str]:
    """For each victim under an attack its name and flags, and below it a figure for each metric and size."""
    for name, group in _by_name(records):
        yield fold(f"{' '.join(name)}: {_flags(group)}")
        figures = _figures(group)
        columns = [
            (
                "0 (clean)" if score.eps == 0 else f"{score.eps:g}",
                [_cell([one[name][place] for one in figures]) for name in figures[0]],
            )
            for place, score in enumerate(group[0].scores)
        ]
        yield across("eps", columns, list(figures[0]), "  ") + "\n"
        if any("*" in name for name in figures[0]):
            yield fold(AFTER_SUCCESS) + "\n"


def _figures(records: Sequence[Record]) -> list[dict[str, list[float]]]:
    """Of each record its figures at each size, by name; those that not every record has are left out."""
    found = [dict(_figures_of(record)) for record in records]
    return [{name: values for name, values in each.items() if all(name in other for other in found)} for each in found]


def _figures_of(record: Record) -> Iterator[tuple[str, list[float]]]:
    yield from ((metric.upper(), [getattr(score, metric) for score in record.scores]) for metric in METRICS)
    classes = record.scores[0].binary or {}
    for name in classes:
        areas = [score.binary[name].auroc for score in record.scores if score.binary]
        mark = "" if record.goes_on else "*"
        if all(areas):
            label = f"AUROC{mark}" if len(classes) == 1 else f"AUROC{mark} {name}"
            yield label, [area.value for area in areas if area]


def _by_name(records: Sequence[Record]) -> list[tuple[tuple[str, str, str], list[Record]]]:
    """One row over the seeds of a name; a second record of the same seed begins another row."""
    groups: dict[tuple[tuple[str, str, str], int], list[Record]] = {}
    turns: Counter[object] = Counter()
    for record in records:
        name = (record.model, record.defense, record.attack)
        groups.setdefault((name, turns[name, record.seed]), []).append(record)
        turns[name, record.seed] += 1
    return [(name, group) for (name, _), group in groups.items()]


def _cell(values: Sequence[float]) -> str:
    spread = over_seeds(values)
    return f"{spread.mean:.3f}" if spread.sd is None else f"{spread.mean:.3f} ±{spread.sd:.3f}"


def _flags(records: Sequence[Record]) -> str:
    return " ".join(sorted({flag for record in records for flag in record.flags})) or "ok"


def _remarks(records: Sequence[Record]) -> Iterator[str]:
    for record in records:
        score = record.score(record.headline)
        if score is None or record.uncertainty is None:
            continue
        low, high = score.interval.acc
        weights = (record.provenance and record.provenance.weights) or "unknown"
        yield fold(
            f"{_name(record)}, seed {record.seed}: ACC {score.acc:.3f} [{low:.3f}, {high:.3f}] at eps {score.eps:g} "
            f"({record.uncertainty.method}); record {record.key[:12]}, weights {weights[:12]}"
        )
        for check in record.checks:
            if check.raised:
                found = f"effect {check.effect:.3g}, limit {check.threshold:g}"
                yield fold(f"  {check.code}: {check.note} ({found})", "      ")


def _name(record: Record) -> str:
    return f"{record.model} {record.defense} {record.attack}"
