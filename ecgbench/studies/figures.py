"""The figures of a published study: its accuracies beside ours, and what judges the same victims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from ecgbench.figures.values import Curves, Figure, Line, Panels, eps_axis, file_name
from ecgbench.results.record import Record
from ecgbench.studies.comparison import Table
from ecgbench.studies.study import Study

Rows = Mapping[tuple[str, ...], Sequence[Record]]
"""Our rows as `whole_rows` gives them."""


def study_figures(study: Study, table: Table, rows: Rows) -> dict[str, Figure]:
    """The figures of a published table by the name of their file: of accuracies that have ours beside them."""
    shown = _compared(table)
    if table.metric != "acc" or not shown:
        return {}
    unit = next(iter(rows[study.row(next(pair.theirs for pair in table.pairs if pair.ours))])).unit
    words = (study.name, f"table {table.name}", table.model, table.attack)
    title = f"{study.name}, table {table.name}: {table.model}, {table.attack}"
    about = "\n".join([title, *table.remarks])
    found: dict[str, Figure] = {file_name(*words): Curves(about, eps_axis(unit), "accuracy", tuple(_beside(shown)))}
    if study.judged is not None and (panels := _judged(study, table, rows)):
        verdict = f"judged by {study.judged.attack}, protocol {study.judged.protocol}"
        about = "\n".join([f"{title}, and what judges the same victims", *table.remarks, verdict])
        found[file_name(*words, "judged")] = Panels(about, eps_axis(unit), "accuracy", panels)
    return found


def _compared(table: Table) -> dict[str, list[tuple[float, float, float]]]:
    """By the label of a method: eps, our accuracy and theirs, where both stand at two eps or more."""
    found = {
        table.label(method): [
            (eps, pair.ours.mean, pair.theirs.value) for eps, pair in sorted(row.items()) if pair.ours
        ]
        for method, row in table.rows.items()
    }
    return {label: both for label, both in found.items() if len(both) > 1}


def _beside(shown: Mapping[str, Sequence[tuple[float, float, float]]]) -> list[Line]:
    lines = []
    for mark, (label, both) in enumerate(shown.items()):
        eps, ours, theirs = zip(*both, strict=True)
        lines += [Line(f"{label}, ours", eps, ours, mark=mark)]
        lines += [Line(f"{label}, published", eps, theirs, dashed=True, mark=mark)]
    return lines


def _judged(study: Study, table: Table, rows: Rows) -> tuple[tuple[str, tuple[Line, ...]], ...]:
    """By method: published, ours, and what judges victims of the same seeds, where both have any."""
    panels = []
    for method, row in table.rows.items():
        value = next(iter(row.values())).theirs
        ours, judging = rows.get(study.row(value), ()), rows.get(study.judging_row(value) or (), ())
        seeds = {record.seed for record in ours} & {record.seed for record in judging}
        if seeds:
            published = sorted((eps, pair.theirs.value) for eps, pair in row.items())
            eps, values = zip(*published, strict=True)
            both = [[record for record in of if record.seed in seeds] for of in (ours, judging)]
            lines = (_mean(label, of, mark) for mark, label, of in zip((1, 2), ("ours", "judged"), both, strict=True))
            panels.append((table.label(method), (Line("published", eps, values, dashed=True), *lines)))
    return tuple(panels)


def _mean(label: str, records: Sequence[Record], mark: int) -> Line:
    """Accuracy in the mean of the seeds that have an eps, and the widest of their intervals."""
    eps = tuple(sorted({score.eps for record in records for score in record.scores}))
    scores = [[score for record in records if (score := record.score(size))] for size in eps]
    spans = [[score.interval.acc for score in of] for of in scores]
    band = tuple((min(low for low, _ in span), max(high for _, high in span)) for span in spans)
    return Line(label, eps, tuple(fmean(score.acc for score in of) for of in scores), band, mark=mark)
