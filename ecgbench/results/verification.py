"""Do published results follow from their outcomes? What they state is recomputed and compared."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ecgbench.checks.chance import OF_CLEAN, verdict
from ecgbench.checks.flags import BY_EFFECT, DYNAMIC, FLAGS, NOOP, OF_AUDITS, REGISTRY, TRANSFER, UNCHECKED
from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.metrics import summarize
from ecgbench.evaluation.outcomes import Outcomes, spent
from ecgbench.registry.catalog import Catalog, discover
from ecgbench.registry.identity import alike, edited_since, identity
from ecgbench.results.published import Published, cell, outcomes_path, place
from ecgbench.results.record import Record
from ecgbench.results.structure import Structure
from ecgbench.results.words import KINDS, faults_of_words, recorded
from ecgbench.storage.store import key_of

DRAWS = range(1, 10_001)  # resamples that are recomputed; more would only keep a reviewer's machine busy
RELATIVE, ABSOLUTE = 1e-9, 1e-12
STANDARD = frozenset(flag.code for flag in REGISTRY if flag.cost == "cheap") - {UNCHECKED.code}
NEWER = OF_CLEAN | {DYNAMIC.code}
"""Standard checks that rows of older code were not asked for."""


def verify(published: Sequence[Published]) -> list[str]:
    """Every way in which results contradict their outcomes, their place or each other, a sentence each.

    Scores are recomputed. Floats must agree to 1e-9 of their size: sums are exact on every machine, but the
    roots and logarithms of the intervals differ in the last bits between platforms. All else must be equal. Outcomes
    must be such as a sweep makes, see `Structure`.
    """
    catalog = discover()
    return [*(fault for row in published for fault in _checked(row, catalog)), *_repeated(published)]


def strays(folder: Path) -> list[str]:
    """Outcomes below `folder` that belong to no record, a sentence each."""
    lonely = (path for path in folder.rglob("*.npz") if not path.with_suffix(".json").is_file())
    return [f"{path.as_posix()} belongs to no record; expected a .json of its name." for path in sorted(lonely)]


def is_older(record: Record) -> bool:
    """Whether code that made the outcomes of a record, or its victims, has been edited since."""
    return record.provenance is not None and bool(edited_since(record.provenance.identity))


def _faults(row: Published) -> Iterator[str]:
    record, where = row.record, row.path.as_posix()
    expected = place(record).as_posix()
    if "/".join(row.path.parts[-2:]) != expected:
        yield f"{where} is not where its record belongs; expected {expected}."
    if row.path.is_file() and row.path.read_bytes() != record.pretty():
        yield f"{where} is not written as it was published; expected exactly the text of its record."
    for check in record.checks:
        if check.code not in FLAGS:
            yield f"{where}: no check is named {check.code!r}."
        if check.code in BY_EFFECT and check.raised != (check.effect > check.threshold):
            yield f"{where}: {check.code} is {check.raised} for an effect of {check.effect:g} over {check.threshold:g}."
    if record.status != "ok":
        if record.scores or row.outcomes is not None or not record.error:
            yield f"{where} is {record.status}; expected an error, no scores and no outcomes."
    elif row.outcomes is None or record.provenance is None or not outcomes_path(row.path).is_file():
        yield f"{where} has scores; expected {outcomes_path(row.path).name} beside it, and provenance."
    else:
        yield from _recomputed(row, row.outcomes)


def renamed(words: Mapping[str, str], made: Mapping[str, Any], catalog: Catalog) -> Iterator[str]:
    """Kinds whose selector does not mean what an identity says was run; those of absent plugins are not asked."""
    parts = {**made, **made.get("victim", {})}
    for kind, selector in words.items():
        recorded = parts.get(kind)
        try:
            meant = identity(catalog.resolve(kind, selector))
        except EcgbenchError:
            continue
        if recorded is not None and not alike(meant, [("", recorded)]):
            yield kind


def _checked(row: Published, catalog: Catalog) -> Iterator[str]:
    """Every fault of one row; one that cannot even be looked at is a fault, and stops no other."""
    where = row.path.as_posix()
    try:
        yield from _faults(row)
        for found in (faults_of_words(row.record, catalog), _of_checks(row.record), _of_structure(row, catalog)):
            yield from (f"{where}: {fault}" for fault in found)
    except Exception as fault:
        reason = " ".join(str(fault).split()).removesuffix(".")
        yield f"{where} cannot be checked: {type(fault).__name__}: {reason}; expected what a run writes."


def _of_checks(record: Record) -> Iterator[str]:
    """Every standard check is there once; a row of older code may lack the newer ones.

    The costly checks are made together, but for one that needs another victim.
    """
    codes = Counter(check.code for check in record.checks)
    if record.status == "ok":
        audited = OF_AUDITS - {TRANSFER.code} if record.audited else frozenset()
        codes.update(dict.fromkeys((STANDARD - NEWER if is_older(record) else STANDARD) | audited, 0))
    for code, times in sorted(codes.items()):
        if times != 1:
            yield f"the check {code} stands here {times} times; expected once."


def _of_structure(row: Published, catalog: Catalog) -> Iterator[str]:
    """What no sweep could have made; a row whose threat and protocol nobody knows is refused for these words alone."""
    record, outcomes = row.record, row.outcomes
    if record.status != "ok" or outcomes is None:
        return
    try:
        threat, protocol = catalog.resolve("threat", record.threat), catalog.resolve("protocol", record.protocol)
        structure = Structure(outcomes, threat, protocol, record.outputs, _is_minimal(record, catalog))
        yield from structure.faults()
    except EcgbenchError:
        return
    still = structure.moves_nothing(record.headline)
    if any(check.code == NOOP.code and check.raised != still for check in record.checks):
        yield f"{NOOP.code} is {not still}; recomputed from the outcomes it is {still}."


def _is_minimal(record: Record, catalog: Catalog) -> bool | None:
    try:
        return bool(catalog.resolve("attack", record.attack).minimal)
    except EcgbenchError:
        return None


def _recomputed(row: Published, outcomes: Outcomes) -> Iterator[str]:
    where = row.path.as_posix()
    draws = row.record.uncertainty.draws if row.record.uncertainty else 0
    if draws not in DRAWS:
        yield f"{where}: uncertainty.draws is {draws}; expected {DRAWS[0]} to {DRAWS[-1]}."
        return
    try:
        found = _found(row, outcomes, draws)
    except EcgbenchError as fault:
        yield f"{where}: its outcomes cannot be scored: {fault}"
        return
    except (KeyError, TypeError):
        yield f"{where}: its provenance does not say who was attacked; expected the identity of a victim, and weights."
        return
    yield from _of_clean(row, outcomes)
    for field, stated, value in _differences(_stated(row.record), found, ""):
        yield f"{where}: {field} is {_json(stated)}; recomputed from the outcomes it is {_json(value)}."


def _of_clean(row: Published, outcomes: Outcomes) -> Iterator[str]:
    """Checks of the clean predictions that the record states and its outcomes contradict."""
    for found in verdict(outcomes):
        stated = next((check for check in row.record.checks if check.code == found.code), found)
        if stated.raised != found.raised or not _equal(stated.effect, found.effect):
            said, told = (f"{check.raised} ({check.effect:g})" for check in (stated, found))
            yield f"{row.path.as_posix()}: {found.code} is {said}; recomputed from the outcomes it is {told}."


def _stated(record: Record) -> Any:
    made = record.provenance
    return _plain(
        {
            "n": record.n,
            "seed": record.seed,
            "limit": record.limit,
            "groups": record.groups,
            "counts": {name: count for name, count in record.counts.items() if count},
            "eps": record.eps,
            "scores": record.scores,
            "curve": record.curve,
            "uncertainty": record.uncertainty,
            "cost": {name: getattr(record.cost, name) for name in ("forwards", "gradients", "queries")},
            "provenance": made
            and {name: getattr(made, name) for name in ("outcomes_digest", "outcomes", "victim", "weights", "data")},
        }
    )


def _found(row: Published, outcomes: Outcomes, draws: int) -> Any:
    """The same facts as `_stated`, from the outcomes. Raises EcgbenchError where they cannot be scored."""
    record = row.record
    summary = summarize(
        outcomes, record.outputs, skip_unpredicted=record.skip_unpredicted, challenge=record.challenge, draws=draws
    )
    counts = np.bincount(outcomes.y, minlength=len(record.classes)).tolist()
    grouped = np.unique(outcomes.group[outcomes.group >= 0])
    made: Mapping[str, Any] = record.provenance.identity if record.provenance else {}
    return _plain(
        {
            "n": len(outcomes.y),
            "seed": made["victim"]["seed"],
            "limit": made["limit"],
            "groups": len(grouped) or None,
            "counts": {name: count for name, count in zip(record.classes, counts, strict=True) if count},
            "eps": outcomes.eps.tolist(),
            "scores": summary.scores,
            "curve": summary.curve,
            "uncertainty": summary.uncertainty,
            "cost": spent(outcomes),
            "provenance": {
                "outcomes_digest": hashlib.sha256(outcomes_path(row.path).read_bytes()).hexdigest(),
                "outcomes": key_of(made),
                "victim": key_of(made["victim"]),
                "weights": made["weights"]["victim"],
                "data": made["victim"]["data"],
            },
        }
    )


def _plain(value: Any) -> Any:
    """As it stands in JSON."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _differences(stated: Any, found: Any, field: str) -> Iterator[tuple[str, Any, Any]]:
    """The leaves in which two JSON values differ: field, stated and found value."""
    if isinstance(stated, dict) and isinstance(found, dict) and stated.keys() == found.keys():
        for name in found:
            yield from _differences(stated[name], found[name], f"{field}.{name}" if field else name)
    elif isinstance(stated, list) and isinstance(found, list) and len(stated) == len(found):
        for position, pair in enumerate(zip(stated, found, strict=True)):
            yield from _differences(*pair, f"{field}[{_eps(pair[1], position)}]")
    elif not _equal(stated, found):
        yield field, stated, found


def _eps(item: Any, position: int) -> str:
    return f"eps={item['eps']:g}" if isinstance(item, dict) and "eps" in item else str(position)


def _equal(stated: Any, found: Any) -> bool:
    if isinstance(stated, float) and isinstance(found, float):
        return isclose(stated, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(stated == found)


def _repeated(published: Sequence[Published]) -> Iterator[str]:
    """Records that share a key or a cell, in whatever words."""
    seen: dict[object, str] = {}
    for row in published:
        where, made = row.path.as_posix(), recorded(row.record)
        names = [(row.record.key, f"key {row.record.key[:12]}"), (cell(row.record), "cell")]
        if row.record.provenance is not None:
            names.append((key_of({"cell": _cell_as_made(made)}), "cell, by its provenance,"))
        for what, name in names:
            if what in seen:
                yield f"{where} holds the same {name} as {seen[what]}; expected one record of it."
                break
        for what, _ in names:
            seen.setdefault(what, where)


def _cell_as_made(made: Mapping[str, Any]) -> Mapping[str, Any]:
    """A cell by its parameters, whatever code, data and weights it met."""
    return {name: made.get(name) for name in (*KINDS, "eps", "seed", "limit")}
