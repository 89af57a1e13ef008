"""A made-up tree in the layout of the PhysioNet/CinC Challenge 2012."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ecgbench_plugins.datasets.icu2012_files import Set

USUAL = {
    **{"K": 4.1, "pH": 7.4, "PaCO2": 40, "Lactate": 2, "Albumin": 3, "BUN": 20, "Creatinine": 1.2, "Na": 139},
    **{"HCO3": 23, "Platelets": 180, "Glucose": 130, "Mg": 2, "HR": 85, "SysABP": 120, "DiasABP": 60},
    **{"NISysABP": 115, "NIDiasABP": 58, "Temp": 37, "RespRate": 19, "SaO2": 96, "Urine": 80, "GCS": 14},
}
FIRST = {"a": 132539, "b": 142675, "c": 152871}
HEADER = "Time,Parameter,Value\n"


def described(record: int) -> list[str]:
    stated = {"RecordID": record, "Age": 70, "Gender": 1, "Height": -1, "ICUType": 3, "Weight": -1}
    return [f"00:00,{name},{value}" for name, value in stated.items()]


def write_stay(folder: Path, record: int, lines: Sequence[str]) -> Path:
    """A stay of the usual descriptors and the given lines."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record}.txt"
    path.write_text(HEADER + "".join(f"{line}\n" for line in (*described(record), *lines)))
    return path


def drawn_lines(rng: np.random.Generator) -> list[str]:
    """Some lines of every parameter, in the order of time."""
    lines = []
    for name, usual in USUAL.items():
        for minute in rng.choice(48 * 60, 4, replace=False):
            lines.append(f"{minute // 60:02d}:{minute % 60:02d},{name},{usual * rng.uniform(0.97, 1.03):.2f}")
    return sorted(lines)


def write_outcomes(folder: Path, letter: str, died: dict[int, int]) -> Path:
    path = folder / f"Outcomes-{letter}.txt"
    rows = (f"{record},6,1,5,-1,{outcome}" for record, outcome in died.items())
    path.write_text("\n".join(("RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death", *rows)) + "\n")
    return path


def write_tree(folder: Path, stays: int = 20, letters: str = "abc") -> Path:
    """So many stays in each set, every fourth of which died."""
    rng = np.random.default_rng(0)
    for letter in letters:
        records = range(FIRST[letter], FIRST[letter] + stays)
        for record in records:
            write_stay(folder / f"set-{letter}", record, drawn_lines(rng))
        write_outcomes(folder, letter, {record: int(record % 4 == 0) for record in records})
    return folder


def stays_of(folder: Path) -> Set:
    return Set("a", folder / "Outcomes-a.txt", {int(path.stem): path for path in (folder / "set-a").iterdir()})
