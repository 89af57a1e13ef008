"""MIMIC-III: hospital admissions with a stay in an ICU, and who died; the data of the studies of ICU mortality."""

from __future__ import annotations

from collections.abc import Mapping
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
    Task,
    Threat,
    digest,
    hookimpl,
)
from ecgbench_plugins.datasets import icu_features as features
from ecgbench_plugins.datasets import icu_hours, mimic3_tables
from ecgbench_plugins.datasets.icu_features import Feature
from ecgbench_plugins.datasets.icu_hours import Recipe, Stays

LABORATORY = (
    *(features.POTASSIUM, features.CALCIUM, features.PH, features.PACO2, features.LACTATE, features.ALBUMIN),
    *(features.BUN, features.CREATININE, features.SODIUM, features.BICARBONATE, features.PLATELETS, features.GLUCOSE),
)
VITAL = (
    *(features.HEART_RATE, features.SYSTOLIC, features.DIASTOLIC, features.TEMPERATURE, features.RESPIRATION),
    Feature("SpO2", "%", 100),
)
FEATURES = {
    "sun2018": (*LABORATORY, features.INR, *VITAL),
    "lstm-aa": (*LABORATORY, features.MAGNESIUM, *VITAL),
}
CREDENTIALED = (
    "MIMIC-III is credentialed: its data use agreement binds whoever holds the data or what derives from them"
)


@dataclass(frozen=True)
class Mimic3(Dataset):
    """Admissions x (n, 48, 19) in [0, 1]: hourly means of 19 measurements from the first hour in an ICU; who died.

    Read are the CSV files of MIMIC-III 1.4, gzipped or not: PATIENTS, ADMISSIONS, ICUSTAYS, LABEVENTS and CHARTEVENTS.
    They are credentialed and never downloaded. `cohort` "sun2018" follows the public reimplementation of Sun et al.
    2018 (arXiv 1802.04822), with INR; "lstm-aa" the later study of attacks on LSTMs, with magnesium. Both take adults
    with at least a whole day in the ICU and in hospital, and with 48 full hours, from the first to the last of their
    measurements, within 48 hours of their first arrival in an ICU. The SQL in `mimic3_sql` says how, a view in a file.

    Unlike in the studies, nothing of a tested patient is seen in training: patients are split, 64, 16 and 20 % of those
    who died and of those who did not, drawn by `seed`; percentiles and medians are those of the training split; gaps
    are filled from inside the window. `ids` are HADM_IDs, `group` is the SUBJECT_ID. `inputs` and `attackable` are as
    in `icu2012`. Raises DataError for missing or damaged tables.
    """

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.01, 0.02, 0.05, 0.1, 1.0), headline=0.05)
    cohort: Literal["sun2018", "lstm-aa"] = "sun2018"
    inputs: Literal["values", "values-observed"] = "values"
    attackable: Literal["all", "observed"] = "all"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise EcgbenchError(f"mimic3: seed={self.seed} is out of range; expected 0 to 2**32 - 1.")

    def files(self, root: DataRoot) -> Mapping[str, Path]:
        return mimic3_tables.find_tables(root)

    def load(self, root: DataRoot) -> Task:
        files = self.files(root)
        read = FEATURES[self.cohort]
        names, rules = [feature.name for feature in read], self.cohort.replace("-", "_")
        sources = {"rules": mimic3_tables.SOURCE, "hours": icu_hours.SOURCE, "features": features.SOURCE}
        key = digest({**files, **sources, **{path.name: path for path in mimic3_tables.SQL.glob("*.sql")}})
        table = root.array(f"mimic3-{rules}", key, lambda: mimic3_tables.cohort(files, rules, names))
        if not len(table):
            raise DataError(f"mimic3: no admission is of the cohort {self.cohort}; expected the whole of MIMIC-III.")
        part = _parts(table, self.seed)
        for k, purpose in enumerate(("train", "validate", "test")):
            if not (part == k).any():
                raise DataError(f"mimic3: no admission is left to {purpose} on; expected more patients.")
        patients, died = len(np.unique(table["subject_id"])), 100 * table["died"].mean()
        notes = (
            f"cohort {self.cohort}: {len(table)} admissions of {patients} patients, {died:.2f} % died",
            "inter-patient",
            CREDENTIALED,
        )
        recipe = Recipe("mimic3", read, self.inputs, self.attackable)
        return recipe.task(*(_stays(table[part == k]) for k in range(3)), notes=notes)


def _parts(table: np.ndarray, seed: int) -> NDArray[np.int64]:
    """0 train, 1 validation, 2 test, the same for all admissions of a patient."""
    patients, place = np.unique(table["subject_id"], return_inverse=True)
    died = np.zeros(len(patients), bool)
    np.logical_or.at(died, place, table["died"] == 1)
    lot = RandomStream(("mimic3", seed)).uniform(torch.from_numpy(patients.astype(np.int64)), ()).numpy()
    part = np.zeros(len(patients), np.int64)
    for group in (False, True):
        rows = np.flatnonzero(died == group)
        rows = rows[lot[rows].argsort(kind="stable")]
        tested = round(len(rows) / 5)
        part[rows[:tested]] = 2
        part[rows[tested : tested + round((len(rows) - tested) / 5)]] = 1
    return part[place]


def _stays(table: np.ndarray) -> Stays:
    died, ids, group = (table[name].astype(np.int64) for name in ("died", "hadm_id", "subject_id"))
    return Stays(table["values"], table["observed"], died, ids, group)


@hookimpl
def datasets() -> Mapping[str, Dataset]:
    return {"mimic3": Mimic3()}
