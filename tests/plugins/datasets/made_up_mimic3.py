"""Made-up tables in the layout of MIMIC-III: the columns of version 1.4, no value of a patient."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

COLUMNS = {
    "PATIENTS": "ROW_ID SUBJECT_ID GENDER DOB DOD DOD_HOSP DOD_SSN EXPIRE_FLAG",
    "ADMISSIONS": "ROW_ID SUBJECT_ID HADM_ID ADMITTIME DISCHTIME DEATHTIME ADMISSION_TYPE ADMISSION_LOCATION "
    "DISCHARGE_LOCATION INSURANCE LANGUAGE RELIGION MARITAL_STATUS ETHNICITY EDREGTIME EDOUTTIME DIAGNOSIS "
    "HOSPITAL_EXPIRE_FLAG HAS_CHARTEVENTS_DATA",
    "ICUSTAYS": "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID DBSOURCE FIRST_CAREUNIT LAST_CAREUNIT FIRST_WARDID LAST_WARDID "
    "INTIME OUTTIME LOS",
    "LABEVENTS": "ROW_ID SUBJECT_ID HADM_ID ITEMID CHARTTIME VALUE VALUENUM VALUEUOM FLAG",
    "CHARTEVENTS": "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID ITEMID CHARTTIME STORETIME CGID VALUE VALUENUM VALUEUOM "
    "WARNING ERROR RESULTSTATUS STOPPED",
}
VITAL = {220045: 85, 220179: 118, 220180: 60, 223761: 98.6, 220210: 18, 220277: 97}
BLOOD = {50822: 4.1, 50808: 1.14, 50820: 7.4, 50818: 40, 50813: 1.8}
SERUM = {50862: 3.2, 51006: 20, 50912: 1.1, 50983: 139, 50882: 24, 51265: 200, 50931: 130, 51237: 1.3, 50960: 2.0}
START = datetime(2150, 3, 1, 10, 20)
HOUR = timedelta(hours=1)


@dataclass
class Tree:
    """Rows of the five tables, added to by hand and written by `write`."""

    rows: dict[str, list[dict[str, object]]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def add(self, table: str, **row: object) -> None:
        """A row; columns that are not named are empty."""
        self.rows[table].append(row)

    def admit(
        self,
        patient: int,
        admission: int,
        stay: int,
        *,
        intime: datetime = START,
        hours: float = 72,
        age: float = 60,
        died: int = 0,
        charted: int = 1,
        ward: timedelta = timedelta(hours=2),
    ) -> None:
        """A patient, an admission that begins `ward` before and ends a day after the stay, and the stay."""
        outtime = intime + hours * HOUR
        if all(row["SUBJECT_ID"] != patient for row in self.rows["PATIENTS"]):
            self.add("PATIENTS", SUBJECT_ID=patient, DOB=intime - timedelta(days=365.25 * age + 10), GENDER="F")
        if all(row["HADM_ID"] != admission for row in self.rows["ADMISSIONS"]):
            self.add(
                "ADMISSIONS",
                SUBJECT_ID=patient,
                HADM_ID=admission,
                ADMITTIME=intime - ward,
                DISCHTIME=outtime + 24 * HOUR,
                HOSPITAL_EXPIRE_FLAG=died,
                HAS_CHARTEVENTS_DATA=charted,
                DIAGNOSIS='FALL, WITH "CUTS"',
            )
        self.add("ICUSTAYS", SUBJECT_ID=patient, HADM_ID=admission, ICUSTAY_ID=stay, INTIME=intime, OUTTIME=outtime)

    def chart(self, stay: int, item: int, at: datetime, value: float | str, error: int | str = "") -> None:
        self.add("CHARTEVENTS", ICUSTAY_ID=stay, ITEMID=item, CHARTTIME=at, VALUE=value, VALUENUM=value, ERROR=error)

    def lab(self, patient: int, admission: int | str, item: int, at: datetime, value: float | str) -> None:
        self.add(
            "LABEVENTS", SUBJECT_ID=patient, HADM_ID=admission, ITEMID=item, CHARTTIME=at, VALUE=value, VALUENUM=value
        )

    def heart_rates(self, stay: int, values: Iterable[float], first: datetime = START) -> None:
        """A heart rate every hour, from `first` on."""
        for hour, value in enumerate(values):
            self.chart(stay, 220045, first + hour * HOUR, value)

    def write(self, folder: Path, gzipped: bool = False) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for table, rows in self.rows.items():
            write_table(folder, table, rows, gzipped)
        return folder


def write_table(folder: Path, table: str, rows: Sequence[dict[str, object]], gzipped: bool = False) -> Path:
    columns = COLUMNS[table].split()
    path = folder / f"{table}.csv{'.gz' if gzipped else ''}"
    with gzip.open(path, "wt", newline="", compresslevel=1) if gzipped else path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writeheader()
        for number, row in enumerate(rows, start=1):
            writer.writerow({"ROW_ID": number, **row})
    return path


def drawn_tree(patients: int, seed: int = 0) -> Tree:
    """Patients with all 20 measurements, a fifth of whom died; every fifth is admitted twice."""
    rng = np.random.default_rng(seed)
    tree = Tree()
    for patient in range(1, patients + 1):
        for again in range(2 if patient % 5 == 0 else 1):
            admission, stay = 100_000 + 2 * patient + again, 200_000 + 2 * patient + again
            intime = START + timedelta(days=90 * again, minutes=int(rng.integers(1, 39)))
            tree.admit(patient, admission, stay, intime=intime, died=int(patient % 4 == 0 and not again))
            for hour in range(52):
                at = intime + hour * HOUR
                for item, usual in VITAL.items():
                    tree.chart(stay, item, at, round(usual * rng.uniform(0.95, 1.02), 1))
                if hour % 12 == 0:
                    for item, usual in {**BLOOD, **SERUM}.items():
                        tree.lab(patient, admission, item, at, round(usual * rng.uniform(0.9, 1.1), 2))
    return tree
