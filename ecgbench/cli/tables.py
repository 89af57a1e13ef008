"""Records as tables for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from tabulate import tabulate

from ecgbench.evaluation.uncertainty import over_seeds
from ecgbench.results.record import Record


def tables(records: Iterable[Record]) -> str:
    """One table per dataset, threat, protocol and grid; rows are victims under an attack, over seeds."""
    ordered = sorted(records, key=_section)
    return "\n".join(_table(list(rows)) for _, rows in groupby(ordered, key=_section))


def _section(record: Record) -> tuple[object, ...]:
    return record.dataset, record.threat, record.protocol, record.epsilons, record.limit or 0


def _table(records: Sequence[Record]) -> str:
    done = [record for record in records if record.status == "ok"]
    lines = []
    if done:
        lines += [_title(done[0]), "", _scores(done), "", *_remarks(done)]
    lines += [
        f"{record.status}: {_name(record)}, seed {record.seed}: {record.error}"
        for record in records
        if record not in done
    ]
    return "\n".join(lines) + "\n"


def _title(record: Record) -> str:
    facts = [record.dataset, *record.notes, f"{record.n} test samples"]
    facts += [f"{record.groups} patients"] if record.groups else []
    facts += ["partial"] if record.limit else []
    return f"{', '.join(facts)}\nthreat {record.threat}, eps in {_unit(record)}; {record.weighting}"


def _unit(record: Record) -> str:
    return "units of x" if record.unit == "1" else record.unit


def _scores(records: Sequence[Record]) -> str:
    sizes = ("0 (clean)", *(f"{eps:g}" for eps in records[0].epsilons))
    rows = []
    for name, group in _by_name(records):
        for metric in ("acc", "prec", "f1"):
            values = [_cell([getattr(record.scores[place], metric) for record in group]) for place in range(len(sizes))]
            first = metric == "acc"
            rows.append(
                [*(name if first else ("",) * len(name)), metric.upper(), *values, _flags(group) if first else ""]
            )
    headers = ("model", "defense", "attack", "eps", *sizes, "flags")
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True)


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


def _remarks(records: Sequence[Record]) -> list[str]:
    lines = []
    for record in records:
        score = record.score(record.headline)
        if score is None or record.uncertainty is None:
            continue
        low, high = score.interval.acc
        lines.append(
            f"{_name(record)}, seed {record.seed}: ACC {score.acc:.3f} [{low:.3f}, {high:.3f}] at eps {score.eps:g} "
            f"({record.uncertainty.method}); record {record.key[:12]}"
        )
        lines += [
            f"  {c.code}: {c.note} (effect {c.effect:.3g}, limit {c.threshold:g})" for c in record.checks if c.raised
        ]
    return lines


def _name(record: Record) -> str:
    return f"{record.model} {record.defense} {record.attack}"
