"""MIT-BIH beats: the single heartbeats, in five AAMI classes, that most ECG robustness studies attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgbench.data import Samples, Task
from ecgbench.dataroot import DataRoot, Remote, digest
from ecgbench.errors import DataError, EcgbenchError
from ecgbench.hookspecs import hookimpl
from ecgbench.interfaces import Dataset, Defaults
from ecgbench.keyed import Keyed
from ecgbench.threat import Threat
from ecgbench_plugins.datasets import beats, kaggle

LAYOUTS = (
    "mitdb",
    "files/mitdb/1.0.0",
    "mit-bih-arrhythmia-database-1.0.0",
    "physionet.org/files/mitdb/1.0.0",
)
CSV_LAYOUTS = ("mitbih", "heartbeat", "ecg-heartbeat-categorization")
HINT = "set ECGBENCH_DATA to the folder that holds mitdb/, or run: ecgbench data get mitbih"
CSV_HINT = f"set ECGBENCH_DATA to the folder that holds {' and '.join(kaggle.FILES)}"

RECORDS = 48
PUBLISHED = (90589, 2779, 7236, 803, 8039)  # beats of each class
PUBLISHED_TEST = (18118, 556, 1448, 162, 1608)

# de Chazal, O'Dwyer and Reilly 2004 (IEEE TBME 51(7)): TEST is their DS2, TRAIN and VALIDATION are their DS1
# but for record 201; the paced records 102, 104, 107 and 217 are in neither. VALIDATION holds about a fifth of
# N, S and V, but only 30 of the 413 F beats, since record 208 alone has 373.
TRAIN = (101, 106, 108, 109, 112, 114, 115, 116, 119, 122, 203, 207, 208, 209, 215, 220, 230)
VALIDATION = (118, 124, 205, 223)
TEST = (100, 103, 105, 111, 113, 117, 121, 123, 200, 202, 210, 212, 213, 214, 219, 221, 222, 228, 231, 232,
        233, 234)  # fmt: skip

TILED = "each class counts as often as the largest: its beats are repeated in turn, in the order of ids"


@dataclass(frozen=True)
class MitBih(Dataset):
    """Beats x (n, 1, 187) in [0, 1] at 125 Hz, made by the recipe in `beats`; scale in mV.

    `mask` is False on the zero padding behind each beat, `group` is the patient (records 201 and 202 are one),
    `ids` number the beats over all records, the same in both splits.

    `split="random"` draws 20 % of each class for testing, with the published class counts, and 20 % of each
    class of the rest for validation; `seed` fixes the draw. Beats of one patient are then in all parts. Test
    weights repeat the rarer classes as Ma and Liang 2020 (arXiv 2005.09134) did. `split="inter-patient"`
    takes DS1 and DS2 of de Chazal et al. 2004 in the four classes without Q, and leaves record 201 out of
    DS1, since its patient's other record is in DS2.

    `source="csv"` takes the published rows, `mitbih_train.csv` and `mitbih_test.csv`, instead: their split,
    no patients, no mV; a fifth of the training file is drawn for validation as Ma and Liang drew it (exactly
    theirs for seed 0). Its padding is what follows the last sample that is not 0.

    Raises DataError where a file is missing, damaged, or not what it should be, and EcgbenchError for fields
    that do not fit each other.
    """

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.01, 0.03, 0.05, 0.1, 0.2, 0.3), headline=0.05)
    remote: ClassVar[Remote | None] = Remote(
        url="https://physionet.org/files/mitdb/1.0.0/", folder="mitdb", wanted=(*beats.ENDINGS, "RECORDS")
    )
    split: Literal["random", "inter-patient"] = "random"
    source: Literal["wfdb", "csv"] = "wfdb"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.source == "csv" and self.split != "random":
            raise EcgbenchError(f"mitbih: the CSV files name no patients; split={self.split} needs source=wfdb.")
        if not 0 <= self.seed < 2**32:
            raise EcgbenchError(f"mitbih: seed={self.seed} is out of range; expected 0 to 2**32 - 1.")

    def files(self, root: DataRoot) -> Mapping[str, Path]:
        if self.source == "csv":
            folder = root.find("mitbih", kaggle.FILES[0], CSV_LAYOUTS, CSV_HINT)
            names = list(kaggle.FILES)
        else:
            folder = root.find("mitbih", "RECORDS", LAYOUTS, HINT)
            names = ["RECORDS", *(name + ending for name in _records(folder) for ending in beats.ENDINGS)]
        for name in names:
            if not (folder / name).is_file():
                raise DataError(f"mitbih: {name} is missing in {folder}; {self._hint}")
        return {name: folder / name for name in names}

    def load(self, root: DataRoot) -> Task:
        files = self.files(root)
        parts, notes = self._published(root, files) if self.source == "csv" else self._cut(root, files)
        train, val, test = parts
        replay = self.split == "random"
        return Task(
            name="mitbih",
            classes=beats.CLASSES if replay else beats.CLASSES[:-1],
            train=train,
            val=val,
            test=replace(test, weight=_tiled(test.y)) if replay else test,
            bounds=(0.0, 1.0),
            physical="mV" if self.source == "wfdb" else None,
            rate=float(beats.RATE),
            notes=notes,
            weighting=TILED if replay else Task.weighting,
            skip_unpredicted=replay,
        )

    def _cut(self, root: DataRoot, files: Mapping[str, Path]) -> tuple[list[Samples], tuple[str, ...]]:
        folder = files["RECORDS"].parent
        names = _records(folder)
        key = digest({**files, "recipe": beats.SOURCE})
        table = root.array("mitbih", key, lambda: beats.cut_all(folder, names))
        found = tuple(np.bincount(table["label"], minlength=len(beats.CLASSES)).tolist())
        whole = len(names) == RECORDS
        if whole and found != PUBLISHED:
            raise DataError(f"mitbih: the records hold {found} beats of N, S, V, F, Q; expected {PUBLISHED}.")
        if self.split == "random":
            part = _drawn(table, PUBLISHED_TEST if whole else tuple(round(n / 5) for n in found), self.seed)
            how = ("intra-patient", f"split drawn with seed {self.seed}: the published draw is unknown")
        else:
            part = _by_patient(table)
            how = ("inter-patient", "record 201 left out of DS1: its patient is in DS2")
        notes = how if whole else (*how, f"only {len(names)} of {RECORDS} records")
        return [_samples(table, np.flatnonzero(part == k)) for k in range(3)], notes

    def _published(self, root: DataRoot, files: Mapping[str, Path]) -> tuple[list[Samples], tuple[str, ...]]:
        fit, test = (
            root.array(path.stem, digest({name: path, "recipe": kaggle.SOURCE}), partial(kaggle.read, path))
            for name, path in files.items()
        )
        order = np.arange(len(fit))
        np.random.RandomState(self.seed).shuffle(order)  # as Ma and Liang; NumPy keeps this stream for ever
        cut = int(0.8 * len(fit))
        train, val = (_rows(fit, np.sort(rows)) for rows in (order[:cut], order[cut:]))
        return [train, val, _rows(test, np.arange(len(test)), first=len(fit))], ("intra-patient",)

    @property
    def _hint(self) -> str:
        return CSV_HINT if self.source == "csv" else HINT


def _records(folder: Path) -> list[str]:
    names = (folder / "RECORDS").read_text(encoding="ascii", errors="replace").split()
    odd = [name for name in names if not name.isdigit() or names.count(name) > 1]
    if odd or not names:
        fault = f"names {odd[0]!r}" if odd else "is empty"
        raise DataError(f"mitbih: RECORDS {fault}; expected the numbers of MIT-BIH records, each once.")
    return names


def _drawn(table: np.ndarray, tests: Sequence[int], seed: int) -> NDArray[np.int64]:
    """Part of each beat: 0 train, 1 validation (a fifth of each class of what testing leaves), 2 test."""
    lot = Keyed(("mitbih", "random split", seed)).uniform(torch.arange(len(table)), ())
    part = np.zeros(len(table), np.int64)
    for label, n in enumerate(tests):
        rows = np.flatnonzero(table["label"] == label)
        rows = rows[lot.numpy()[rows].argsort(kind="stable")]
        part[rows[:n]] = 2
        part[rows[n : n + round((len(rows) - n) / 5)]] = 1
    return part


def _by_patient(table: np.ndarray) -> NDArray[np.int64]:
    """Part of each beat, as in `_drawn`; -1 where it is in none."""
    part = np.full(len(table), -1)
    for k, records in enumerate((TRAIN, VALIDATION, TEST)):
        part[np.isin(table["record"], records) & (table["label"] < beats.CLASSES.index("Q"))] = k
        if not (part == k).any():
            raise DataError(f"mitbih: split=inter-patient found no beats in any of the records {records}.")
    return part


def _samples(table: np.ndarray, rows: NDArray[np.int64]) -> Samples:
    """The beats in `rows`, numbered by their place in the whole table."""
    mine = {name: torch.from_numpy(table[name][rows]) for name in beats.BEAT.names or ()}
    patient = torch.where(mine["record"] == 202, 201, mine["record"])
    return Samples.of(
        mine["x"][:, None],
        mine["label"].long(),
        mask=(torch.arange(beats.SAMPLES) < mine["length"][:, None])[:, None],
        ids=torch.from_numpy(rows),
        scale=mine["scale"],
        group=patient.long(),
    )


def _rows(table: np.ndarray, rows: NDArray[np.int64], first: int = 0) -> Samples:
    """Published rows, numbered from `first`."""
    x = torch.from_numpy(table[:, :-1][rows])
    padding = x.flip(1).cumsum(1).flip(1) == 0
    label = torch.from_numpy(table[:, -1][rows]).long()
    return Samples.of(x[:, None], label, mask=~padding[:, None], ids=torch.from_numpy(rows + first))


def _tiled(y: Tensor) -> Tensor:
    """How often each row stands in the balanced test set of Ma and Liang 2020: y (n,) -> (n,) float32.

    Their code repeats each class's list of rows whole and cuts it to the size of the largest class.
    """
    weight = torch.empty(len(y))
    largest = int(y.bincount().max()) if len(y) else 0
    for label in y.unique():
        rows = torch.nonzero(y == label)[:, 0]
        weight[rows] = (largest // len(rows) + (torch.arange(len(rows)) < largest % len(rows))).float()
    return weight


@hookimpl
def datasets() -> Mapping[str, Dataset]:
    return {"mitbih": MitBih()}
