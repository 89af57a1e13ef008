"""The answer of a dataset: which of its victims is best, by how much, how sure; a value, made by rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb

from ecgbench.leaderboard.bounds import proof
from ecgbench.leaderboard.confidence import FEW, Certainty
from ecgbench.leaderboard.naming import Names, Who, who
from ecgbench.leaderboard.ranking import RankedVictim
from ecgbench.leaderboard.sections import Section
from ecgbench.leaderboard.wording import capitalised, counted, eps_in, figure, joined, number, signed, span

STRICT = "strict"
"""The attack whose figure is the one to cite, by name; where it did not run, the worst case over what did."""
NOTHING = 0.05
"""A victim whose interval ends below has nothing left to be ranked by."""
LONGEST = 8
"""Rows of an answer."""
MOST = 8
"""Answers of the first page."""


@dataclass(frozen=True)
class Placed:
    """A victim in its place; `certainty` is None for a flagged one, whose figure is not believed."""

    name: str
    victim: RankedVictim
    certainty: Certainty | None


@dataclass(frozen=True)
class Answer:
    """The victims of one section in order, those that rank."""

    section: Section
    placed: tuple[Placed, ...]

    @property
    def trusted(self) -> tuple[Placed, ...]:
        """The victims without a flag."""
        return tuple(one for one in self.placed if one.certainty is not None)

    @property
    def unmet(self) -> tuple[str, ...]:
        """The victims that the strict attack did not meet, where it met others."""
        met = {of for of, _ in strict_runs(self.section)}
        return tuple(one.name for one in self.placed if met and who(one.victim) not in met)

    def attack(self, victim: Placed) -> str:
        """What decides the figure of a victim, in words."""
        ran = {attack for of, attack in strict_runs(self.section) if of == who(victim.victim)}
        options = sorted({attack.partition("[")[2].rstrip("]") for attack in ran} - {""})
        return (
            f"the {STRICT} attack" + (f" ({', '.join(options)})" if options else "") if ran else "every attack that ran"
        )

    @property
    def patients(self) -> int | None:
        """Patients of the test split, None where none are named."""
        return None if self.section.scored is None else self.section.scored.groups


def answers(names: Names) -> list[Answer]:
    """The answer of every dataset: splits by patient, other splits of their recordings, others, made-up data."""
    found = [answer_of(_deciding(names.of_dataset(dataset)), names) for dataset in names.datasets]
    apart = {recordings_of(one.section) for one in found if by_patient(one.section)}

    def order(one: Answer) -> tuple[object, ...]:
        recordings = recordings_of(one.section)
        place = (recordings not in apart, recordings, not by_patient(one.section), one.section.dataset)
        return (one.section.synthetic, *place)

    return sorted(found, key=order)


def at_first_sight(found: Sequence[Answer]) -> tuple[list[Answer], list[Answer]]:
    """The answers of the first page, those that name a victim without a flag if any does, and the rest, in order."""
    sure = [one for one in found if one.trusted]
    shown = list(sure or found)[:MOST]
    datasets = {one.section.dataset for one in shown}
    return shown, [one for one in found if one.section.dataset not in datasets]


def answer_of(section: Section, names: Names) -> Answer:
    """The victims of a section and how sure their places are."""
    ranking = [victim for victim in section.victims if victim.ranks]
    sure = section.certainties
    return Answer(section, tuple(Placed(names.victim(section, one), one, sure.get(who(one))) for one in ranking))


def strict_runs(section: Section) -> set[tuple[Who, str]]:
    """Victims of the section that met the strict attack at its headline eps, each with the attack's selector."""
    return {
        (who(row.record), row.record.attack)
        for row in section.rows
        if row.record.status == "ok"
        and _is_strict(row.record.attack)
        and row.record.score(section.headline) is not None
    }


def recordings_of(section: Section) -> str:
    """The recordings of a section, whatever their split."""
    return section.dataset.partition("[")[0]


def by_patient(section: Section) -> bool:
    """Whether no patient of the test split was trained on."""
    return section.scored is not None and "inter-patient" in section.scored.notes


def verdict(answer: Answer) -> str:
    """One sentence to three: who is best, by how much, how sure, and how much of it is proven."""
    trusted, said = answer.trusted, _verdict(answer)
    if trusted:
        best, headline = trusted[0].victim, answer.section.headline
        said += f" Counterexamples leave {figure(best.best_known[headline])}." if headline in best.best_known else ""
        said += f" {proof(trusted[0].name, best.sides[headline])}" if headline in best.sides else ""
    return said


def _verdict(answer: Answer) -> str:
    trusted = answer.trusted
    at = f"eps {number(answer.section.headline)}{eps_in(answer.section.scored)}"
    if not trusted:
        return f"No victim ranks without a flag at {at}."
    best = trusted[0]
    deciding = best.victim.deciding
    nothing = deciding is not None and deciding.mean == 0
    if nothing or (best.victim.interval is not None and best.victim.interval[1] < NOTHING):
        return (
            f"No victim withstands {answer.attack(best)} at {at}: the best of {counted(len(trusted), 'victim')} keeps \
{_share(best.victim)} of its test samples right."
        )
    who_keeps = f"{capitalised(best.name)} keeps {_share(best.victim)} of its test samples right"
    said = f"{who_keeps} at {at} under {answer.attack(best)}"
    if len(trusted) == 1:
        return f"{said}; no other victim without a flag stands beside it."
    ahead = best.certainty.ahead if best.certainty else None
    by = "" if ahead is None else f", {signed(ahead.value)} {span(ahead.interval)} beside {trusted[1].name}"
    most = f"{said}, the most of {counted(len(trusted), 'victim')}{by}."
    return f"{most} {_how_sure(trusted)}"


def _how_sure(trusted: Sequence[Placed]) -> str:
    """Whether the first of several victims is best at the 5 % level, and if not, which others may be."""
    best, *others = trusted
    rivals = [one.name for one in others if one.certainty and one.certainty.rank[0] == 1]
    if not rivals:
        return "It is best at the 5 % level."
    named = joined(rivals) if len(rivals) <= 3 else f"{counted(len(rivals), 'other')}"
    of = comb(len(trusted), 2)
    together = f" when {counted(of, 'pair')} are tested together" if of > 1 else ""
    chance = "" if best.certainty is None else f"; it is best in {figure(best.certainty.first)} of all resamples"
    return f"It is not distinguishable from {named}{together}{chance}."


def caveats(answer: Answer, others: Iterable[Answer]) -> list[str]:
    """What a reader must know before citing: few patients, patients on both sides of the split, made-up data."""
    found = []
    if answer.unmet:
        few = joined(answer.unmet) if len(answer.unmet) <= 3 else counted(len(answer.unmet), "victim")
        found.append(f"The {STRICT} attack has not met {few}: what weaker attacks leave may be too high.")
    if answer.section.synthetic:
        found.append("The data is made up: this says nothing about classifiers of recordings.")
    if answer.patients is not None and answer.patients < FEW:
        found.append(f"Few patients ({answer.patients}): intervals cover a little less than they say.")
    record = answer.section.scored
    if record is not None and "intra-patient" in record.notes:
        found.append(_optimism(answer, [one for one in others if by_patient(one.section)]))
    return found


def _optimism(answer: Answer, by_patients: Sequence[Answer]) -> str:
    """What a split that has patients on both sides is worth, on the defenses that both splits have."""
    said = "Patients stand on both sides of this split, which flatters every figure"
    for other in by_patients:
        if recordings_of(other.section) != recordings_of(answer.section):
            continue
        pairs = [
            (one.victim, new.victim)
            for one in answer.placed
            for new in other.placed
            if who(one.victim) == who(new.victim)
        ]
        told = [(a.clean.mean, b.clean.mean) for a, b in pairs if a.clean is not None and b.clean is not None]
        if told:
            here, there = (sum(values) / len(values) for values in zip(*told, strict=True))
            return f"{said}: {counted(len(told), 'defense')} of both splits score {figure(here)} when clean here, \
{figure(there)} on patients never met."
    return f"{said}."


def _share(victim: RankedVictim) -> str:
    deciding = victim.deciding
    return f"{figure(None if deciding is None else deciding.mean)} {span(victim.interval)}"


def _is_strict(attack: str) -> bool:
    return attack.partition("[")[0] == STRICT


def _deciding(parts: Sequence[Section]) -> Section:
    """The section that answers: what ranks, a protocol that stops at no victim's clean errors, strict, most victims."""

    def order(part: Section) -> tuple[object, ...]:
        standard = part.protocol == "standard" or part.protocol.startswith("standard[per_class=")
        ranking = sum(victim.ranks for victim in part.victims)
        return (not ranking, not standard, not strict_runs(part), "[" in part.threat, -ranking, part.protocol)

    return min(parts, key=order)
