"""The figures of a board: which there are, what each shows, and whether the files show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ecgbench.core.data import Task
from ecgbench.evaluation.metrics import confusion
from ecgbench.evaluation.perturbations import Perturbations
from ecgbench.figures.values import Curves, Figure, Line, Matrices, Signals, eps_axis, fault, file_name
from ecgbench.leaderboard.naming import Names
from ecgbench.leaderboard.ranking import RankedVictim, at_headline
from ecgbench.leaderboard.sections import Section
from ecgbench.results.record import Record
from ecgbench.storage.store import write_file
from ecgbench.studies.comparison import pairs, tables, whole_rows
from ecgbench.studies.figures import study_figures
from ecgbench.studies.study import Study

FIGURES = "figures"
CLASSES = 6  # a matrix of more is not read at a glance
LINES = 6  # of a figure


def board_figures(names: Names, studies: Iterable[Study], records: Sequence[Record]) -> dict[str, Figure]:
    """The figures of a board by the name of their file: curves of every section, and studies beside ours."""
    found: dict[str, Figure] = {}
    for section in names.parts:
        found |= {name: _curves(section, model, names) for model, name in curves_names(section).items()}
    rows = whole_rows(records)
    for study in studies:
        for table in tables(pairs(study, records)):
            found |= study_figures(study, table, rows)
    return found


def run_figures(names: Names) -> dict[str, Figure]:
    """The figures of a run by the name of their file: curves, and the confusion matrices of every victim."""
    found = board_figures(names, (), ())
    for section in names.parts:
        for victim in section.victims:
            if (matrix := matrices_name(section, victim)) is not None:
                found[matrix] = _matrices(section, victim, names)
    return found


def curves_names(section: Section) -> dict[str, str]:
    """The file of a section's curves for each model that has any: in one for all, lines were not told apart."""
    return {model: file_name(*_terms(section), model) for model in sorted({victim.model for victim in _shown(section)})}


def matrices_name(section: Section, victim: RankedVictim) -> str | None:
    """The file of a victim's confusion matrices; None where it has none, or there are too many classes."""
    record = section.scored
    if record is None or len(record.classes) > CLASSES or victim not in _shown(section):
        return None
    return file_name(*_terms(section), victim.model, victim.defense, *([f"{victim.limit}"] if victim.limit else []))


def of_perturbations(record: Record, task: Task, kept: Perturbations) -> dict[str, Figure]:
    """A figure by the name of its file for each sample of which a record's perturbation is kept."""
    cell = (record.dataset, record.model, record.defense, record.attack, record.threat, f"seed {record.seed}")
    made: dict[str, Figure] = {}
    for at, sample in enumerate(kept.ids.tolist()):
        true, clean, attacked = (_class(task, int(labels[at])) for labels in (kept.y, kept.clean, kept.attacked))
        facts = f"sample {sample}: {true}; predicted {clean}, under attack at eps {record.headline:g} {attacked}"
        factor = kept.scale[at].astype(np.float64) if task.physical else np.float64(1.0)
        unit = task.physical or ("unit of the signal" if task.unit == "1" else task.unit)
        leads = [(factor * one[at]).reshape(-1, one.shape[-1]) for one in (kept.x, kept.delta)]
        x, delta = (tuple(tuple(lead) for lead in each.tolist()) for each in leads)
        made[file_name(f"sample{sample}", record.key[:12], *cell[1:])] = Signals(
            f"{facts}\n{', '.join(cell)}", unit, task.rate, x, delta
        )
    return made


def draw_all(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Draw what is missing, stale or altered."""
    from ecgbench.figures.svg import draw

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


def _terms(section: Section) -> tuple[str, ...]:
    protocol = () if section.protocol == "standard" else (section.protocol,)
    return (section.dataset, section.threat, *protocol, f"{section.headline!r}")


def _title(section: Section, names: Names) -> str:
    return f"{names.datasets[section.dataset]}\n{names.section(section)}, headline eps {section.headline:g}"


def _shown(section: Section) -> tuple[RankedVictim, ...]:
    """The victims that rank; where none does, those with figures at the headline eps."""
    ranked = tuple(victim for victim in section.victims if victim.ranks)
    return ranked or tuple(victim for victim in section.victims if victim.deciding is not None)


def _label(victim: RankedVictim, section: Section, names: Names) -> str:
    facts = [names.victim(section, victim), *([] if victim.limit is None else ["partial"]), *victim.flags]
    return ", ".join(facts)


def _curves(section: Section, model: str, names: Names) -> Curves:
    """The best of a model's victims: more lines than `LINES` cannot be told apart."""
    victims = [victim for victim in _shown(section) if victim.model == model]
    more = f", the first {LINES} of {len(victims)}" if len(victims) > LINES else ""
    return Curves(
        f"{_title(section, names)}{more}",
        eps_axis("1" if section.scored is None else section.scored.unit),
        "accuracy, worst case, 95 % interval",
        tuple(_line(victim, section, names) for victim in victims[:LINES]),
        section.headline,
    )


def _line(victim: RankedVictim, section: Section, names: Names) -> Line:
    spreads = {0.0: victim.clean, **dict(sorted(victim.robust.items()))}
    found = [(eps, spread.mean, victim.intervals[eps]) for eps, spread in spreads.items() if spread is not None]
    eps, values, band = zip(*found, strict=True)
    return Line(_label(victim, section, names), eps, values, band, mark=names.style(section, victim))


def _matrices(section: Section, victim: RankedVictim, names: Names) -> Matrices:
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
    return Matrices(
        f"{_label(victim, section, names)}\n{_title(section, names)}", classes, tuple(counts), tuple(panels)
    )
