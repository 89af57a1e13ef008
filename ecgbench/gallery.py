"""The figures of a board: which there are, what each shows, and whether the files show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from ecgbench.comparison import Table, pairs, tables, whole_rows
from ecgbench.data import Task
from ecgbench.deltas import Deltas
from ecgbench.figures import Curves, Figure, Line, Matrices, Panels, Signals, fault
from ecgbench.metrics import confusion
from ecgbench.published import slug
from ecgbench.ranking import Standing, at_headline
from ecgbench.record import Record
from ecgbench.sections import Section
from ecgbench.store import key_of, write_file
from ecgbench.study import Study

FIGURES = "figures"
CLASSES = 6  # a matrix of more is not read at a glance


def gallery(parts: Iterable[Section], studies: Iterable[Study], records: Sequence[Record]) -> dict[str, Figure]:
    """All figures of a board by the name of their file."""
    found: dict[str, Figure] = {}
    for section in parts:
        found |= {name: _curves(section, model) for model, name in curves_names(section).items()}
        for victim in section.standings:
            if (matrix := matrices_name(section, victim)) is not None:
                found[matrix] = _matrices(section, victim)
    for study in studies:
        for table in tables(pairs(study, records)):
            if (name := table_name(study, table)) is not None:
                found[name] = _beside(study, table, records)
            if (name := judged_name(study, table, records)) is not None:
                found[name] = _judged(study, table, records)
    return found


def curves_names(section: Section) -> dict[str, str]:
    """The file of a section's curves for each model that has any: in one for all, lines were not told apart."""
    return {model: _named(*_terms(section), model) for model in sorted({victim.model for victim in _shown(section)})}


def matrices_name(section: Section, victim: Standing) -> str | None:
    """The file of a victim's confusion matrices; None where it has none, or there are too many classes."""
    record = section.scored
    if record is None or len(record.classes) > CLASSES or victim not in _shown(section):
        return None
    return _named(*_terms(section), victim.model, victim.defense, *([f"{victim.limit}"] if victim.limit else []))


def table_name(study: Study, table: Table) -> str | None:
    """The file of a published table's accuracies beside ours; None where nothing stands beside them."""
    if table.metric != "acc" or not _compared(table):
        return None
    return _named(study.name, f"table {table.name}", table.model, table.attack)


def judged_name(study: Study, table: Table, records: Iterable[Record]) -> str | None:
    """The file of what judges the victims of a published table; None where nothing does."""
    if table.metric != "acc" or not _judging(study, table, records):
        return None
    return _named(study.name, f"table {table.name} judged", table.model, table.attack)


def of_deltas(record: Record, task: Task, kept: Deltas) -> dict[str, Figure]:
    """A figure by the name of its file for each sample of which a record's perturbation is kept."""
    cell = (record.dataset, record.model, record.defense, record.attack, record.threat, f"seed {record.seed}")
    made: dict[str, Figure] = {}
    for at, sample in enumerate(kept.ids.tolist()):
        true, clean, attacked = (_class(task, int(labels[at])) for labels in (kept.y, kept.clean, kept.attacked))
        facts = f"sample {sample}: {true}; predicted {clean}, under attack at eps {record.headline:g} {attacked}"
        factor = float(kept.scale[at]) if task.physical else 1.0
        unit = task.physical or ("unit of the signal" if task.unit == "1" else task.unit)
        leads = [factor * one[at].reshape(-1, one.shape[-1]).astype(np.float64) for one in (kept.x, kept.delta)]
        x, delta = (tuple(tuple(lead) for lead in each.tolist()) for each in leads)
        made[_named(f"sample{sample}", record.key[:12], *cell[1:])] = Signals(
            f"{facts}\n{', '.join(cell)}", unit, task.rate, x, delta
        )
    return made


def draw_all(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Draw what is missing, stale or altered."""
    from ecgbench.drawing import draw

    for name, figure in figures.items():
        if _fault(folder / name, figure) is not None:
            write_file(folder / name, draw(figure).encode())


def write(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Draw what is missing, stale or altered, and remove what is shown no more."""
    draw_all(folder, figures)
    for path in _left_over(folder, figures):
        path.unlink()


def faults(folder: Path, figures: Mapping[str, Figure]) -> list[str]:
    """Every file that is missing, altered or left over, a sentence each; nothing is drawn for it."""
    found = ((folder / name, _fault(folder / name, figure)) for name, figure in figures.items())
    wrong = [f"{path.as_posix()} {what}; build the board." for path, what in found if what is not None]
    return wrong + [f"{path.as_posix()} is shown nowhere; build the board." for path in _left_over(folder, figures)]


def _fault(path: Path, figure: Figure) -> str | None:
    try:
        return fault(path.read_bytes().decode(), figure)
    except FileNotFoundError:
        return "is missing"
    except (OSError, UnicodeDecodeError):
        return "cannot be read"


def _class(task: Task, label: int) -> str:
    return task.classes[label] if label >= 0 else "nothing"


def _left_over(folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    return [path for path in sorted(folder.glob("*.svg")) if path.name not in figures]


def _named(*words: str) -> str:
    """A readable name with a digest, since different words may look alike in it."""
    return f"{slug('-'.join(words))}-{key_of({'words': words})[:8]}.svg"


def _terms(section: Section) -> tuple[str, ...]:
    protocol = () if section.protocol == "standard" else (section.protocol,)
    return (section.dataset, section.threat, *protocol, f"{section.headline!r}")


def _title(section: Section) -> str:
    *terms, headline = _terms(section)
    return f"{', '.join(terms)}, headline eps {float(headline):g}"


def _shown(section: Section) -> tuple[Standing, ...]:
    """The victims that rank; where none does, those with figures at the headline eps."""
    ranked = tuple(victim for victim in section.standings if victim.ranks)
    return ranked or tuple(victim for victim in section.standings if victim.deciding is not None)


def _label(victim: Standing) -> str:
    facts = [victim.model, victim.defense, *(["1 seed"] if victim.seeds == 1 else [f"{victim.seeds} seeds"])]
    return ", ".join([*facts, *([] if victim.limit is None else ["partial"]), *victim.flags])


def _curves(section: Section, model: str) -> Curves:
    victims = (victim for victim in _shown(section) if victim.model == model)
    lines = [_line(victim, mark) for mark, victim in enumerate(victims)]
    return Curves(
        _title(section), _size(section.scored), "accuracy, worst case, 95 % interval", tuple(lines), section.headline
    )


def _line(victim: Standing, mark: int) -> Line:
    spreads = {0.0: victim.clean, **dict(sorted(victim.robust.items()))}
    found = [(eps, spread.mean, victim.intervals[eps]) for eps, spread in spreads.items() if spread is not None]
    eps, values, band = zip(*found, strict=True)
    return Line(_label(victim), eps, values, band, mark=mark)


def _matrices(section: Section, victim: Standing) -> Matrices:
    """Of all seeds together, weighted as the split states."""
    record = section.scored
    classes = () if record is None else record.classes
    seeds = at_headline(section.rows, victim)
    panels = []
    for name, eps in (("clean", 0.0), (f"worst case at eps {victim.headline:g}", victim.headline)):
        table = sum(confusion(one.y, one.at(eps), len(classes), one.weight) for one in seeds)
        shares = np.asarray(table) / np.maximum(np.sum(table, axis=1, keepdims=True), 1e-12)
        panels.append((name, tuple(tuple(row) for row in shares.tolist())))
    counts = np.bincount(seeds[0].y, minlength=len(classes)).tolist()
    return Matrices(f"{_label(victim)}\n{_title(section)}", classes, tuple(counts), tuple(panels))


def _compared(table: Table) -> dict[str, list[tuple[float, float, float]]]:
    """By method: eps, our accuracy and theirs, where both stand at two eps or more."""
    found = {
        method: [(eps, pair.ours.mean, pair.figure.value) for eps, pair in sorted(row.items()) if pair.ours]
        for method, row in table.rows.items()
    }
    return {method: both for method, both in found.items() if len(both) > 1}


def _beside(study: Study, table: Table, records: Iterable[Record]) -> Curves:
    rows = {study.row(pair.figure)[:2] for pair in table.pairs if pair.ours}
    of = (r for r in records if r.status == "ok" and (r.dataset, r.threat) in rows)
    lines = []
    for mark, (method, both) in enumerate(_compared(table).items()):
        eps, ours, theirs = zip(*both, strict=True)
        lines += [Line(f"{method}, ours", eps, ours, mark=mark)]
        lines += [Line(f"{method}, published", eps, theirs, dashed=True, mark=mark)]
    title = f"{study.name}, table {table.name}: {table.model}, {table.attack}"
    marks = "" if table.partial is None else f"\npartial: {table.partial}"
    return Curves(title + marks, _size(next(of)), "accuracy", tuple(lines))


def _judging(study: Study, table: Table, records: Iterable[Record]) -> dict[str, tuple[Sequence[Record], ...]]:
    """By method: our rows beside the table, and those that judge the same victims, where both are there."""
    rows = whole_rows(records)
    found: dict[str, tuple[Sequence[Record], ...]] = {}
    for method, pairs_of in table.rows.items():
        figure = next(iter(pairs_of.values())).figure
        judging = study.judging_row(figure)
        both = (rows.get(study.row(figure), ()), rows.get(judging, ()) if judging else ())
        if all(both):
            found[method] = both
    return found


def _judged(study: Study, table: Table, records: Sequence[Record]) -> Panels:
    panels = []
    for method, (ours, judging) in _judging(study, table, records).items():
        eps, theirs = zip(*((eps, pair.figure.value) for eps, pair in sorted(table.rows[method].items())), strict=True)
        lines = (
            Line("published", eps, theirs, dashed=True, mark=0),
            _mean("ours", ours, mark=1),
            _mean(f"the same victims under {judging[0].attack}", judging, mark=2),
        )
        panels.append((method, lines))
    marks = "" if table.partial is None else f"\npartial: {table.partial}"
    title = f"{study.name}, table {table.name}: {table.model}, {table.attack}, and what judges it{marks}"
    return Panels(title, _size(judging[0]), "accuracy", tuple(panels))


def _mean(label: str, records: Sequence[Record], mark: int) -> Line:
    """Accuracy in the mean of the seeds, and the widest of their intervals, at each eps that all of them have."""
    scores = [{score.eps: score for score in record.scores} for record in records]
    eps = tuple(sorted(set.intersection(*(set(one) for one in scores))))
    values = tuple(fmean(one[size].acc for one in scores) for size in eps)
    spans = ([one[size].interval.acc for one in scores] for size in eps)
    band = tuple((min(low for low, _ in span), max(high for _, high in span)) for span in spans)
    return Line(label, eps, values, band, mark=mark)


def _size(record: Record | None) -> str:
    unit = "1" if record is None else record.unit
    return "eps in the unit of the signal" if unit == "1" else f"eps in {unit}"
