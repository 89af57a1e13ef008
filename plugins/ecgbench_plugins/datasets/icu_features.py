"""The measurements that the studies of ICU mortality read, with their units and the values that can be true.

Sun et al. 2018 (arXiv 1802.04822) and Tang et al. 2018 (JAMIA Open 1(1)) read the same 13 laboratory values and 6 vital
signs. Ranges are those of the views `pivoted_lab`, `pivoted_bg` and `pivoted_vital` of the MIT-LCP
mimic-code, adapted by the public reimplementations of the two studies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SOURCE = Path(__file__)


@dataclass(frozen=True)
class Feature:
    """A measurement: valid where low < value < high, or where it equals `high` and `closed` says that this is valid."""

    name: str
    unit: str
    high: float = inf
    closed: bool = True
    low: float = 0.0


def valid(features: Sequence[Feature], places: NDArray[np.integer], values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which `values` (n,) can be true, each being of the feature at its place in `places` (n,)."""
    low, high, closed = (np.array([getattr(one, name) for one in features])[places] for name in _LIMITS)
    below: NDArray[np.bool_] = (values < high) | (closed & (values == high))
    return below & (values > low)


_LIMITS = ("low", "high", "closed")
POTASSIUM = Feature("K", "mEq/L", 30)
CALCIUM = Feature("Ca", "mmol/L")  # ionised
PH = Feature("pH", "1", 8, low=6)
PACO2 = Feature("PaCO2", "mmHg")
LACTATE = Feature("Lactate", "mmol/L", 50)
ALBUMIN = Feature("Albumin", "g/dL", 10)
BUN = Feature("BUN", "mg/dL", 300)
CREATININE = Feature("Creatinine", "mg/dL", 150)
SODIUM = Feature("Na", "mEq/L", 200)
BICARBONATE = Feature("HCO3", "mmol/L", 10_000)
PLATELETS = Feature("Platelets", "1000/uL", 10_000)
GLUCOSE = Feature("Glucose", "mg/dL", 10_000)
MAGNESIUM = Feature("Mg", "mg/dL")
INR = Feature("INR", "1", 50)
HEART_RATE = Feature("HR", "1/min", 300, closed=False)
SYSTOLIC = Feature("SBP", "mmHg", 400, closed=False)
DIASTOLIC = Feature("DBP", "mmHg", 300, closed=False)
TEMPERATURE = Feature("Temp", "C", 50, closed=False, low=10)
RESPIRATION = Feature("RespRate", "1/min", 70, closed=False)
SATURATION = Feature("SaO2", "%", 100)

OPEN_DATA = (  # the 18 of the 19 that the PhysioNet/CinC Challenge 2012 has: no calcium; magnesium, not INR
    *(POTASSIUM, PH, PACO2, LACTATE, ALBUMIN, BUN, CREATININE, SODIUM, BICARBONATE, PLATELETS, GLUCOSE, MAGNESIUM),
    *(HEART_RATE, SYSTOLIC, DIASTOLIC, TEMPERATURE, RESPIRATION, SATURATION),
)
