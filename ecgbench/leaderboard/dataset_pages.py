"""The page of a dataset: every threat and protocol its victims met, and what each attack is worth."""

from __future__ import annotations

from collections.abc import Iterator

from ecgbench.leaderboard.answer import answer_of, verdict
from ecgbench.leaderboard.attacks import worth
from ecgbench.leaderboard.bounds import BOTH_SIDES, bracket, decided
from ecgbench.leaderboard.figures import FIGURES, curves_names
from ecgbench.leaderboard.flags_page import FLAGS_PAGE, badges_link, best_known_link
from ecgbench.leaderboard.naming import Names, anchor, dataset_page, victim_page, who
from ecgbench.leaderboard.page import Block, Bullets, Code, Heading, Link, Page, Paragraph, Picture, Strong, Table, Text
from ecgbench.leaderboard.ranking import RankedVictim
from ecgbench.leaderboard.sections import Section
from ecgbench.leaderboard.titles import listed
from ecgbench.leaderboard.wording import MISSING, counted, eps_in, mean, number, sentence, span, spread


def dataset_pages(names: Names) -> Iterator[Page]:
    """The page of every dataset."""
    for dataset, name in names.datasets.items():
        yield Page.of(dataset_page(dataset), name, _blocks(dataset, names))


def _blocks(dataset: str, names: Names) -> Iterator[Block]:
    parts = names.of_dataset(dataset)
    yield Paragraph(("Dataset ", Code(dataset), ". Threats and protocols, each compared by itself:"))
    titles = {id(part): _title(part, names) for part in parts}
    here = dataset_page(dataset)
    yield Bullets(tuple(Link(title, f"{here}#{anchor(title)}") for title in titles.values()))
    for part in parts:
        yield from _section(part, titles[id(part)], names)
    yield from _selectors(dataset, names)


def _title(part: Section, names: Names) -> str:
    return f"{names.section(part)}, eps {number(part.headline)}{eps_in(part.scored)}"


def _section(part: Section, title: str, names: Names) -> Iterator[Block]:
    yield Heading(title)
    answer = answer_of(part, names)
    if answer.placed:
        yield Paragraph(verdict(answer))
    yield _victims(part, names)
    for model, name in curves_names(part).items():
        yield Picture(f"Robust accuracy of {model} over eps", f"{FIGURES}/{name}")
    yield _over_eps(part, names)
    yield from _both_sides(part, names)
    yield from worth(part, names)
    yield Bullets(tuple(_terms(part)))


def _victims(part: Section, names: Names) -> Table:
    at = f"robust at {number(part.headline)}"
    head = ("#", "victim", "seeds", "n", "clean", at, "95 %", "decided by", "marks")
    rows = tuple(_victim(one, part, names) for one in part.victims)
    return Table(head, rows, frozenset({2, 3, 4, 5}))


def _victim(one: RankedVictim, part: Section, names: Names) -> tuple[Text, ...]:
    seeds = f"{one.seeds}" if one.seeds == one.of else f"{one.seeds} of {one.of}"
    return (
        MISSING if one.rank is None else str(one.rank),
        Link(names.victim(part, one), victim_page(part.dataset, who(one))),
        seeds,
        str(one.n) if one.n else MISSING,
        spread(one.clean),
        one.status if one.status != "ok" else Strong(spread(one.deciding)),
        span(one.interval),
        MISSING if one.decided_by is None else names.attacks[one.decided_by],
        marks(one, names),
    )


def marks(one: RankedVictim, names: Names) -> Text:
    """What a reader must know of a victim, flags first."""
    facts = [*(["partial"] if one.limit is not None else []), *(["audited"] if one.audited else [])]
    facts += [f"failed: {names.attacks[attack]}" for attack in one.failed]
    links = [Link(", ".join(one.flags), FLAGS_PAGE)] if one.flags else []
    links += [best_known_link(one)] if one.headline in one.best_known else []
    links += [badges_link(one)] if one.badges else []
    told: list[str | Link] = [*links, *([", ".join(facts)] if facts else [])]
    return tuple(part for one in told for part in (", ", one))[1:]


def _over_eps(part: Section, names: Names) -> Table:
    head = ("victim, robust accuracy at eps", "clean", *(number(eps) for eps in part.eps))
    rows = tuple(
        (names.victim(part, one), mean(one.clean), *(mean(one.robust.get(eps)) for eps in part.eps))
        for one in part.victims
        if one.status == "ok"
    )
    return Table(head, rows, frozenset(range(1, len(head))))


def _both_sides(part: Section, names: Names) -> Iterator[Block]:
    """Two lines a victim of which something was to be proven: [proven, attacked], and the share that is decided."""
    rows: list[tuple[Text, ...]] = []
    for one in part.victims:
        if one.sides:
            sides = [one.sides.get(eps) for eps in part.eps]
            rows.append((names.victim(part, one), "proven, attacked", *map(bracket, sides)))
            rows.append(("", "decided", *map(decided, sides)))
    if rows:
        yield Paragraph(BOTH_SIDES)
        head = ("victim, at eps", "", *(number(eps) for eps in part.eps))
        yield Table(head, tuple(rows), frozenset(range(2, len(head))))


def _terms(part: Section) -> Iterator[Text]:
    """What all rows of a section have in common."""
    yield "Threat ", Code(part.threat), ", protocol ", Code(part.protocol), "."
    if part.protocol != "standard":
        yield "This protocol is not the standard one: its rows compare with each other alone."
    record = part.scored
    if record is None:
        yield "No row of this section has scores."
        return
    unit = "the unit of the signal" if record.unit == "1" else record.unit
    groups = "" if record.groups is None else f", {counted(record.groups, 'patient')}"
    classes = ", ".join(f"{name} {record.counts.get(name, 0)}" for name in record.classes)
    yield f"eps in {unit}; {counted(record.n, 'sample')}{groups}; by class: {classes}."
    yield f"Weighting: {sentence(record.weighting)}"
    if record.skip_unpredicted:
        yield "A class that nobody predicts is left out of PREC."
    yield from (f"Note: {sentence(note)}" for note in record.notes)


def _selectors(dataset: str, names: Names) -> Iterator[Block]:
    """What the names of the page stand for."""
    yield Heading("Selectors")
    told = [(name, f"{model} · {defense}") for (model, defense), name in sorted(names.victims[dataset].items())]
    used = {row.record.attack for part in names.of_dataset(dataset) for row in part.rows}
    attacks = listed({attack: name for attack, name in names.attacks.items() if attack in used})
    yield Table(("name", "selector"), tuple((name, Code(selector)) for name, selector in [*told, *attacks]))
