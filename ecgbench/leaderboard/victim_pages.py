"""The page of a victim: what every attack left of it, under every threat, and the records behind."""

from __future__ import annotations

from collections.abc import Iterator

from ecgbench.leaderboard.bounds import bracket, decided
from ecgbench.leaderboard.dataset_pages import marks
from ecgbench.leaderboard.flags_page import BEST_KNOWN, FLAGS_PAGE, OLDER
from ecgbench.leaderboard.naming import RESULTS, Names, Who, anchor, dataset_page, victim_page, who
from ecgbench.leaderboard.page import Block, Code, Heading, Link, Page, Paragraph, Table, Text, parts
from ecgbench.leaderboard.ranking import RankedVictim, flags
from ecgbench.leaderboard.sections import Section
from ecgbench.leaderboard.wording import MISSING, REASON, eps_in, figure, number, span, spread
from ecgbench.registry.identity import edited_since
from ecgbench.results.certificates import CertificateRecord
from ecgbench.results.published import Published, place
from ecgbench.results.record import Record
from ecgbench.results.verification import is_older


def victim_pages(names: Names) -> Iterator[Page]:
    """The page of every victim of every dataset."""
    for dataset, victims in names.victims.items():
        for one, name in victims.items():
            yield Page.of(
                victim_page(dataset, one), f"{name} on {names.datasets[dataset]}", _blocks(dataset, one, names)
            )


def _blocks(dataset: str, one: Who, names: Names) -> Iterator[Block]:
    model, defense = one
    yield Paragraph(("Model ", Code(model), ", defense ", Code(defense), "."))
    yield Paragraph(Link("All victims of this dataset", dataset_page(dataset)))
    for part in names.of_dataset(dataset):
        for victim in part.victims:
            if who(victim) == one:
                yield Heading(f"{names.section(part)}, eps {number(part.headline)}{eps_in(part.scored)}")
                yield from _section(part, victim, names)


def _section(part: Section, victim: RankedVictim, names: Names) -> Iterator[Block]:
    told = marks(victim, names)
    if any(parts(told)):
        yield Paragraph(told)
    if victim.status == "ok":
        yield _worst_case(part, victim)
    yield _attacks(part, victim, names)
    yield from _certificates(part, victim)


def _worst_case(part: Section, victim: RankedVictim) -> Table:
    clean = "clean", spread(victim.clean), span(victim.intervals.get(0.0))
    others = ((number(eps), spread(victim.robust.get(eps)), span(victim.intervals.get(eps))) for eps in part.eps)
    rows: tuple[tuple[Text, ...], ...] = (clean, *others)
    head: tuple[Text, ...] = ("eps", "worst case over attacks", "95 %")
    numbers = {1}
    if victim.best_known:
        known = (MISSING, *(figure(victim.best_known.get(eps)) for eps in part.eps))
        rows, head = tuple((*row, one) for row, one in zip(rows, known, strict=True)), (*head, "best known")
        numbers.add(3)
    if victim.sides:
        proofs = [("", ""), *((bracket(victim.sides.get(eps)), decided(victim.sides.get(eps))) for eps in part.eps)]
        rows = tuple((*row, *proof) for row, proof in zip(rows, proofs, strict=True))
        head = (*head, "proven, attacked", "decided")
        numbers.add(len(head) - 1)
    return Table(head, rows, frozenset(numbers))


def _attacks(part: Section, victim: RankedVictim, names: Names) -> Table:
    """Three lines a row, ACC, PREC and F1; a fourth where counterexamples leave less."""
    head = ("attack", "seed", "", "clean", *(number(eps) for eps in part.eps), "marks", "record, weights")
    rows: list[tuple[Text, ...]] = []
    for row in part.rows:
        record = row.record
        if (record.model, record.defense, record.limit) == (victim.model, victim.defense, victim.limit):
            rows += _attack(row, part, names)
    return Table(head, tuple(rows), frozenset(range(3, 4 + len(part.eps))))


def _attack(row: Published, part: Section, names: Names) -> Iterator[tuple[Text, ...]]:
    record = row.record
    leads = Link(record.key[:12], f"{RESULTS}/{place(record).as_posix()}")
    name, empty = names.attacks[record.attack], [""] * len(part.eps)
    if record.status != "ok":
        reason = f"{record.status}: {(record.error or 'no reason is known')[:REASON]}"
        yield name, str(record.seed), reason, MISSING, *empty, "", leads
        return
    for metric in ("acc", "prec", "f1"):
        scores = (record.score(eps) for eps in (0.0, *part.eps))
        values = [figure(None if score is None else getattr(score, metric)) for score in scores]
        about = (name, str(record.seed), _marks(row), leads) if metric == "acc" else ("", "", "", "")
        last = _weights(record) if metric == "prec" else about[3]
        yield about[0], about[1], metric.upper(), *values, about[2], last
    if row.best_known:
        known = (figure(row.best_known.get(eps)) for eps in part.eps)
        yield "", "", Link("best known", f"{FLAGS_PAGE}#{anchor(BEST_KNOWN)}"), MISSING, *known, "", ""


def _certificates(part: Section, victim: RankedVictim) -> Iterator[Block]:
    """What each certificate proves, one a row."""
    own = [one for one in part.certificates if (one.model, one.defense) == (victim.model, victim.defense)]
    if not own:
        return
    head = ("certificate", "seed", "n", "clean", *(number(eps) for eps in part.eps), "CPU s", "", "record, weights")
    own.sort(key=lambda one: (one.certificate, one.seed, one.threat, one.n, one.key))
    yield Paragraph("Proven at each eps, of the samples that each certificate was asked for:")
    yield Table(head, tuple(_certificate(one, part) for one in own), frozenset(range(2, 5 + len(part.eps))))


def _certificate(one: CertificateRecord, part: Section) -> tuple[Text, ...]:
    proven = (figure(one.share(eps)) for eps in part.eps)
    leads = (Link(one.key[:12], one.place.as_posix()), " ", Code(one.weights[:12]))
    what = (Code(one.certificate), str(one.seed), str(one.n), figure(one.clean))
    return (*what, *proven, f"{sum(one.seconds):.3g}", _about(one, part), leads)


def _about(one: CertificateRecord, part: Section) -> str:
    """The threat that a certificate is of, where it is a larger one, and whether the present code has made it."""
    return ", ".join(([] if one.threat == part.threat else [one.threat]) + [OLDER] * bool(edited_since(one.identity)))


def _weights(record: Record) -> Text:
    """The first digits of the digest of the weights that were attacked."""
    weights = record.provenance.weights if record.provenance else None
    return MISSING if weights is None else Code(weights[:12])


def _marks(row: Published) -> Text:
    """Flags, and marks: for rows of others, for outcomes that another chunking or another run would change, or that
    older code has made.
    """
    record = row.record
    fixed = [] if record.determinism == "sample" else [f"determinism: {record.determinism}"]
    told = ", ".join([*([row.badge] if row.badge else []), *fixed, *([OLDER] if is_older(record) else [])])
    raised = flags(record)
    return (Link(", ".join(raised), FLAGS_PAGE), f" {told}" if told else "") if raised else told
