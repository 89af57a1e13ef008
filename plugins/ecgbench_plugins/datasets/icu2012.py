"""PhysioNet/CinC Challenge 2012: 12,000 stays of at least 48 hours in an ICU, and who died in hospital."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ecgbench import (
    DataError,
    DataRoot,
    Dataset,
    Defaults,
    EcgbenchError,
    RandomStream,
    Remote,
    Task,
    Threat,
    digest,
    hookimpl,
)
from ecgbench_plugins.datasets import icu2012_stays
from ecgbench_plugins.datasets.icu2012_files import STAYS, Set, read_outcomes
from ecgbench_plugins.datasets.icu_features import OPEN_DATA
from ecgbench_plugins.datasets.icu_hours import Recipe, Stays

AGAIN = "download it (ecgbench data get icu2012), or leave such stays out (skip_bad=true)."
TESTS = {"b": ("b",), "c": ("c",), "both": ("b", "c")}


@dataclass(frozen=True)
class Icu2012(Dataset):
    """Stays x (n, 48, 18) in [0, 1]: hourly means of 18 measurements of an ICU; the classes are survived and died.

    0 and 1 are the 5th and 95th percentile of what was observed in the training stays, `scale` is the span between them
    in each feature's unit. Gaps are filled as in `icu_hours`. Blood pressure is the invasive one, in hours without it
    that of the cuff; oxygen saturation is that of arterial blood. Of the 19 measurements of Sun et al. 2018 (arXiv
    1802.04822) ionised calcium is not in these data. Anomalies of the files are handled as in `icu2012_stays` and
    counted in the notes; stays without any of the 18 are left out.

    Training and validation are 80 and 20 % of set a, drawn by `seed` in each class; the test set is set b, with
    `test` "c" set c, with "both" both. A set that is not named is not read. `ids` are the numbers of the records. The
    files name no patients: `group` is None.

    `inputs` "values-observed" gives the model 18 columns more, 1 where a value was observed, which no attack may
    change; `attackable` "observed" leaves attacks the observed cells only. `skip_bad` leaves out damaged stays, each
    named in the notes, instead of raising DataError for the first.
    """

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.01, 0.02, 0.05, 0.1, 1.0), headline=0.05)
    remote: ClassVar[Remote | None] = Remote(
        url="https://physionet.org/files/challenge-2012/1.0.0/",
        folder="challenge-2012",
        wanted=("Outcomes-a.txt", "Outcomes-b.txt", "Outcomes-c.txt", "set-a.tar.gz", "set-b.tar.gz", "set-c.tar.gz"),
        archives=(".tar.gz",),
        largest=1 << 27,
        content="9ed10ba080833020879ed5965785ba0a030107b3cf8df5f754915fc867986880",
        pinned=(".txt",),
        newlines=((".txt", b"\n"),),
    )
    test: Literal["b", "c", "both"] = "b"
    inputs: Literal["values", "values-observed"] = "values"
    attackable: Literal["all", "observed"] = "all"
    seed: int = 0
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise EcgbenchError(f"icu2012: seed={self.seed} is out of range; expected 0 to 2**32 - 1.")

    def files(self, root: DataRoot) -> Mapping[str, Path]:
        return {name: path for one in self._sets(root) for name, path in one.files().items()}

    def load(self, root: DataRoot) -> Task:
        sets = self._sets(root)
        fit, *tests = [_Read.of(root, one) for one in sets]
        faults = {record: fault for one in (fit, *tests) for record, fault in one.faults.items()} | _twice(sets)
        if faults and not self.skip_bad:
            record = min(faults)
            raise DataError(f"icu2012: record {record} is {faults[record]}; {AGAIN}")
        stays = fit.sound(faults)
        held = [one.sound(faults) for one in tests]
        test = held[0] if len(held) == 1 else _joined(held)
        validates = _drawn(stays, self.seed)
        for purpose, n in (("train", (~validates).sum()), ("validate", validates.sum()), ("test", len(test.ids))):
            if not n:
                raise DataError(f"icu2012: no stay is left to {purpose} on; expected more stays.")
        recipe = Recipe("icu2012", OPEN_DATA, self.inputs, self.attackable)
        notes = (*_remarks((fit, *tests), faults), "no patients are named: no split can be patient-disjoint")
        return recipe.task(stays[~validates], stays[validates], test, notes=notes)

    def _sets(self, root: DataRoot) -> list[Set]:
        return [Set.find(root, letter) for letter in ("a", *TESTS[self.test])]


@dataclass(frozen=True)
class _Read:
    """A set as it was read: its STAY table, the outcome by record, and what is wrong with a stay by record."""

    letter: str
    table: np.ndarray
    died: Mapping[int, int]
    faults: Mapping[int, str]

    @classmethod
    def of(cls, root: DataRoot, one: Set) -> _Read:
        paths = {str(record): path for record, path in one.stays.items()}
        key = digest({**paths, **icu2012_stays.SOURCES})
        table = root.array(f"icu2012-{one.letter}", key, lambda: icu2012_stays.read_all(one.stays))
        died, wrong = read_outcomes(one.outcomes)
        listed = died.keys() | wrong.keys()
        faults = {int(row["record"]): row["fault"].decode() for row in table[table["fault"] != b""]}
        faults |= {record: f"without an outcome in {one.outcomes.name}" for record in one.stays.keys() - listed}
        faults |= {record: f"without its file set-{one.letter}/{record}.txt" for record in listed - one.stays.keys()}
        return cls(one.letter, table, died, faults | wrong)

    def empty(self) -> NDArray[np.bool_]:
        """Which stays have none of the features."""
        return np.asarray(~self.table["observed"].any((1, 2)))

    def sound(self, faults: Mapping[int, str]) -> Stays:
        """The stays that are not empty and have none of the `faults`."""
        record = self.table["record"]
        rows = np.flatnonzero(~np.isin(record, list(faults)) & ~self.empty())
        label = np.array([self.died[one] for one in record[rows].tolist()], np.int64)
        return Stays(self.table["values"][rows], self.table["observed"][rows], label, record[rows].astype(np.int64))


def _joined(stays: Sequence[Stays]) -> Stays:
    values, observed, died, ids = (
        np.concatenate([getattr(one, name) for one in stays]) for name in ("values", "observed", "died", "ids")
    )
    return Stays(values, observed, died, ids)


def _twice(sets: Sequence[Set]) -> dict[int, str]:
    """What is wrong with records that have a file in two sets."""
    number = Counter(record for one in sets for record in one.stays)
    return {record: f"a stay of {n} sets" for record, n in number.items() if n > 1}


def _drawn(stays: Stays, seed: int) -> NDArray[np.bool_]:
    """Which stays validate: a fifth of each class, by lots of their records."""
    lot = RandomStream(("icu2012", seed)).uniform(torch.from_numpy(stays.ids), ()).numpy()
    drawn = np.zeros(len(lot), bool)
    for label in (0, 1):
        rows = np.flatnonzero(stays.died == label)
        drawn[rows[lot[rows].argsort(kind="stable")][: round(len(rows) / 5)]] = True
    return drawn


def _remarks(sets: Sequence[_Read], faults: Mapping[int, str]) -> Iterator[str]:
    """Notes, a phrase each, on what was read and what was left out."""
    yield f"trained on set a, tested on set {' and '.join(one.letter for one in sets[1:])} of the challenge"
    rows, nameless, late, repeated = (
        sum(int(one.table[name].sum()) for one in sets) for name in ("rows", "nameless", "late", "repeated")
    )
    yield (
        f"{rows} rows: {nameless} without a parameter's name and {late} at 48:00 left out, {repeated} repeats of a "
        "time and parameter averaged"
    )
    dropped = zip(OPEN_DATA, sum(one.table["dropped"].sum(0) for one in sets).tolist(), strict=True)
    yield f"impossible values left out: {', '.join(f'{feature.name} {n}' for feature, n in dropped if n) or 'none'}"
    sound = {record for one in sets for record in one.table["record"].tolist()} - faults.keys()
    empty = sorted({record for one in sets for record in one.table["record"][one.empty()].tolist()} & sound)
    if empty:
        yield f"{len(empty)} stays without any of the 18 features left out: {', '.join(map(str, empty))}"
    if len(sound) < STAYS * len(sets):
        yield f"only {len(sound)} of {STAYS * len(sets)} stays"
    yield from (f"record {record} left out, being {fault}" for record, fault in sorted(faults.items()))


@hookimpl
def datasets() -> Mapping[str, Dataset]:
    return {"icu2012": Icu2012()}
