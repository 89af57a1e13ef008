"""The first page: for every dataset which victim is best, by how much, how sure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ecgbench.leaderboard.answer import LONGEST, Answer, Placed, answers, at_first_sight, caveats, verdict
from ecgbench.leaderboard.bounds import BOTH_SIDES, bracket, decided
from ecgbench.leaderboard.flags_page import FLAGS_PAGE, badges_link, best_known_link
from ecgbench.leaderboard.naming import Names, dataset_page, study_page, victim_page, who
from ecgbench.leaderboard.page import Block, Bullets, Heading, Link, Page, Paragraph, Strong, Table, Text
from ecgbench.leaderboard.wording import MISSING, counted, eps_in, figure, mean, number, sentence, signed, span
from ecgbench.results.record import SCHEMA, Record
from ecgbench.studies.comparison import agreements, pairs
from ecgbench.studies.study import Study

README = "README.md"
READING = """\
How to read it: robust accuracy at the headline eps in the worst case over all attacks that ran, an upper bound that \
a stronger attack may lower; brackets hold 95 % intervals over patients (from the lowest to the highest end over \
seeds); rank with its interval, 95 % for all victims of a table together; ≈ marks a victim that is not distinguishable \
from the next."""


def front(names: Names, records: Sequence[Record], studies: Sequence[Study]) -> Page:
    """The first page of a board."""
    return Page.of(
        README, "Leaderboard", _front(names, records, studies) if records else [Paragraph("No results yet.")]
    )


def _front(names: Names, records: Sequence[Record], studies: Sequence[Study]) -> Iterator[Block]:
    found = answers(names)
    shown, unshown = at_first_sight(found)
    for answer in shown:
        yield from _answer(answer, names, found)
    yield Paragraph(READING)
    if any(one.victim.sides for answer in shown for one in answer.placed):
        yield Paragraph(BOTH_SIDES)
    yield Bullets(tuple(more(names, records, studies, unshown)))


def _answer(answer: Answer, names: Names, found: Sequence[Answer]) -> Iterator[Block]:
    section = answer.section
    dataset = names.datasets[section.dataset]
    yield Heading(dataset)
    yield Paragraph(" ".join([verdict(answer), *caveats(answer, found)]))
    if answer.placed:
        yield _table(answer)
    left = len(answer.placed) - LONGEST
    others = f"{counted(left, 'more victim')}, " if left > 0 else ""
    yield Paragraph(
        (names.section(section), ": ", others, Link("all attacks and threats", dataset_page(section.dataset)))
    )


def _table(answer: Answer) -> Table:
    """The first victims; with a column of what is proven, where something is."""
    section, placed = answer.section, answer.placed[:LONGEST]
    at = f"robust at eps {number(section.headline)}{eps_in(section.scored)}"
    head = ("rank", "victim", "clean", at, "seeds", "more than the next")
    rows = tuple(_placed(one, answer) for one in placed)
    sides = [one.victim.sides.get(section.headline) for one in placed]
    if not any(sides):
        return Table(head, rows, frozenset({2, 4}))
    both = tuple((*row, bracket(side), decided(side)) for row, side in zip(rows, sides, strict=True))
    return Table((*head, "proven, attacked", "decided"), both, frozenset({2, 4, 7}))


def _placed(one: Placed, answer: Answer) -> tuple[Text, ...]:
    victim, deciding = one.victim, one.victim.deciding
    said = (Strong(figure(None if deciding is None else deciding.mean)), f" {span(victim.interval)}")
    leads = Link(one.name, victim_page(answer.section.dataset, who(victim)))
    return (
        rank_words(one),
        (leads, ", ", badges_link(victim)) if victim.badges else leads,
        mean(victim.clean),
        (*said, ", ", best_known_link(victim)) if victim.headline in victim.best_known else said,
        str(victim.seeds),
        ahead_words(one) if not victim.flags else (Link(", ".join(victim.flags), FLAGS_PAGE)),
    )


def rank_words(one: Placed) -> str:
    """A rank, and its interval where it has any width."""
    if one.certainty is None:
        return str(one.victim.rank)
    low, high = one.certainty.rank
    return f"{one.victim.rank} ({low}–{high})" if low != high else f"{one.victim.rank}"


def ahead_words(one: Placed) -> str:
    """How far a victim is ahead of the next, and a mark where the two are not distinguishable."""
    ahead = None if one.certainty is None else one.certainty.ahead
    if ahead is None:
        return MISSING
    return f"{signed(ahead.value)} {span(ahead.interval)}{'' if ahead.distinguishable else ' ≈'}"


def more(
    names: Names, records: Sequence[Record], studies: Sequence[Study], unshown: Sequence[Answer]
) -> Iterator[Text]:
    """The pages behind this one, with the verdicts that it has no table for."""
    verdicts = {one.section.dataset: f". {verdict(one)}" for one in unshown}
    for dataset, name in sorted(names.datasets.items(), key=lambda item: item[1]):
        rows = sum(len(part.rows) for part in names.of_dataset(dataset))
        yield Link(name, dataset_page(dataset)), f": {counted(rows, 'row')}{verdicts.get(dataset, '')}"
    for study in studies:
        near = agreements(pairs(study, records))
        if near:
            told = (
                f"{one.compared} of {one.of} published values beside ours{'' if partial is None else f' ({partial})'}"
                for partial, one in near.items()
            )
            cited = f": {'; '.join(told)}. {sentence(study.citation)}"
            yield Link(study.name, study_page(study.name)), cited
    yield Link("Flags", FLAGS_PAGE), f": what they mean. {counted(len(records), 'record')} of schema {SCHEMA}."
