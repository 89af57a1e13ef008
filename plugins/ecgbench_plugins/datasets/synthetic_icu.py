"""Synthetic ICU stays: made-up hourly measurements of patients who die or survive, without a download.

All is a rule of our own: never validated against recordings, and no result on it is a clinical one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from ecgbench import DataRoot, Dataset, Defaults, EcgbenchError, Task, Threat, hookimpl
from ecgbench_plugins.datasets.icu_features import OPEN_DATA
from ecgbench_plugins.datasets.icu_hours import HOURS, Recipe, Stays, bridged

Array = NDArray[np.float64]

DEATHS = 0.12
PARTS = (0.0, 0.60, 0.75, 1.0)  # of the stays: training, validation, test
FEWEST = 200


class Course(NamedTuple):
    """How a measurement behaves, in its unit, or in the logarithm of it where `log`.

    `middle` at severity 0; `between` and `within` are its standard deviations between stays and from hour to hour;
    `severe` is what a unit of severity adds, in a direction of the stay's own where `either`; digitised in `step`.
    """

    middle: float
    between: float
    within: float
    severe: float
    step: float
    log: bool = False
    either: bool = False


COURSES = {
    "K": Course(4.1, 0.40, 0.25, 0.25, 0.1, either=True),
    "pH": Course(7.39, 0.035, 0.025, -0.035, 0.01),
    "PaCO2": Course(39, 5.5, 3.0, 4.0, 1, either=True),
    "Lactate": Course(1.7, 0.35, 0.20, 0.30, 0.1, log=True),
    "Albumin": Course(3.1, 0.50, 0.10, -0.25, 0.1),
    "BUN": Course(19, 0.60, 0.06, 0.28, 1, log=True),
    "Creatinine": Course(1.0, 0.55, 0.08, 0.22, 0.1, log=True),
    "Na": Course(139, 3.0, 1.2, 2.2, 1, either=True),
    "HCO3": Course(24, 3.0, 1.2, -1.5, 1),
    "Platelets": Course(190, 0.45, 0.06, -0.16, 1, log=True),
    "Glucose": Course(128, 0.22, 0.16, 0.09, 1, log=True),
    "Mg": Course(2.0, 0.25, 0.12, 0.06, 0.1),
    "HR": Course(84, 12, 5.0, 6.0, 1),
    "SBP": Course(119, 15, 8.0, -6.0, 1),
    "DBP": Course(59, 8.5, 5.0, -3.0, 1),
    "Temp": Course(37.0, 0.45, 0.30, 0.30, 0.1, either=True),
    "RespRate": Course(19, 3.0, 2.5, 1.8, 1),
    "SaO2": Course(97, 1.2, 1.0, -0.9, 1),
}
GAS = ("pH", "PaCO2", "SaO2")  # of one draw of arterial blood
PANEL = ("K", "BUN", "Creatinine", "Na", "HCO3", "Platelets", "Glucose", "Mg")  # of one draw of venous blood
ROUTINE = {"HR": 0.93, "SBP": 0.90, "DBP": 0.90, "Temp": 0.36}  # share of the hours in which a nurse writes it down
NEVER = {"gas": 0.28, "Lactate": 0.45, "Albumin": 0.60, "RespRate": 0.60, "SaO2": 0.45}  # of stays at severity 0


@dataclass(frozen=True)
class SyntheticIcu(Dataset):
    """Stays x (n, 48, 18) in [0, 1]: hourly values of 18 measurements, in the form of `icu2012`; 12 % died.

    0 and 1 are the 5th and 95th percentile over the training stays, `scale` the span between them in each feature's
    unit. Gaps are filled as in `icu_hours`. Training, validation and test hold different patients (60, 15, 25 %).

    A hidden severity, which begins anywhere, drifts and wavers, moves the measurements: most in one direction, some
    (Na, K, Temp, PaCO2) in either. Who dies is ranked by severity, its trend, and chance. Missing values inform: the
    more severe, the more often blood is drawn, and some tests are mostly ordered for the severe. Nurses leave gaps. An
    LSTM's AUROC lies between 0.75 and 0.9. It says nothing about patients: the set is synthetic.

    `stays` in all; `seed` fixes every byte; `inputs` "values-observed" gives the model 18 columns more, 1 where a value
    was observed, which no attack may change; `attackable` "observed" leaves attacks the observed cells only. Raises
    EcgbenchError for a parameter out of range.
    """

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.01, 0.02, 0.05, 0.1, 1.0), headline=0.05)
    stays: int = 3000
    seed: int = 0
    inputs: Literal["values", "values-observed"] = "values"
    attackable: Literal["all", "observed"] = "all"

    def __post_init__(self) -> None:
        if self.stays < FEWEST:
            raise EcgbenchError(f"synthetic-icu: stays={self.stays} given; expected {FEWEST} or more.")
        if self.seed < 0:
            raise EcgbenchError(f"synthetic-icu: seed={self.seed} given; expected 0 or more.")

    def load(self, root: DataRoot) -> Task:
        rng = Generator(PCG64(self.seed))
        edges = [round(part * self.stays) for part in PARTS]
        severity, risk = _severities(self.stays, rng)
        died = np.concatenate([_deaths(risk[slice(*ends)]) for ends in pairwise(edges)])
        observed = _observed(severity, rng)
        values = np.where(observed, _measured(severity, rng), np.nan).astype(np.float32)
        stays = Stays(bridged(values), observed, died, np.arange(self.stays))
        recipe = Recipe("synthetic-icu", OPEN_DATA, self.inputs, self.attackable)
        train, val, test = (stays[slice(*ends)] for ends in pairwise(edges))
        return recipe.task(train, val, test, notes=("synthetic", "inter-patient"), synthetic=True)


def _severities(n: int, rng: Generator) -> tuple[Array, Array]:
    """The hidden severity (n, 48) of every hour, of mean 0 and spread 1 at the first, and the risk of death (n,)."""
    first, drift, chance = rng.standard_normal((3, n))
    trend = drift[:, None] * np.linspace(0, 1, HOURS)
    severity = first[:, None] + trend + 0.4 * _wavering((n, HOURS), 0.9, rng)
    return severity, 0.8 * first + 1.2 * drift + 1.2 * chance


def _deaths(risk: Array) -> NDArray[np.int64]:
    """1 for the 12 % of highest risk, 0 for the others."""
    died = np.zeros(len(risk), np.int64)
    died[risk.argsort(kind="stable")[len(risk) - round(DEATHS * len(risk)) :]] = 1
    return died


def _wavering(shape: tuple[int, ...], memory: float, rng: Generator) -> Array:
    """Autoregressive draws along axis 1, of mean 0 and spread 1, `memory` their correlation from hour to hour."""
    draws = rng.standard_normal(shape)
    for hour in range(1, shape[1]):
        draws[:, hour] = memory * draws[:, hour - 1] + (1 - memory**2) ** 0.5 * draws[:, hour]
    return draws


def _measured(severity: Array, rng: Generator) -> Array:
    """What would be read if everything were measured every hour: (n, 48, 18), digitised and valid."""
    n = len(severity)
    course = [COURSES[feature.name] for feature in OPEN_DATA]
    between, within, severe, step = (np.array([getattr(one, name) for one in course]) for name in _NUMBERS)
    log, either = (np.array([getattr(one, name) for one in course]) for name in ("log", "either"))
    middle = np.array([np.log(one.middle) if one.log else one.middle for one in course])
    way = np.where(either & (rng.random((n, 1, len(course))) < 0.5), -1.0, 1.0)
    own = rng.standard_normal((n, 1, len(course)))
    moved = np.where(either, np.maximum(severity, 0)[..., None], severity[..., None])
    values = middle + between * own + within * _wavering((n, HOURS, len(course)), 0.8, rng) + severe * way * moved
    values = np.where(log, np.exp(np.where(log, values, 0)), values)
    lowest, highest = np.array([(one.low, one.high) for one in OPEN_DATA]).T
    ends = lowest + step, highest - step * [not one.closed for one in OPEN_DATA]
    return np.rint(np.clip(values, *ends) / step) * step


_NUMBERS = ("between", "within", "severe", "step")


def _observed(severity: Array, rng: Generator) -> NDArray[np.bool_]:
    """Which values are there: (n, 48, 18)."""
    n = len(severity)
    start = severity[:, 0]
    gas = _ordered(NEVER["gas"], start, rng)
    drawn = {
        **dict.fromkeys(PANEL, _draws(severity, 11.0, rng)),
        **dict.fromkeys(GAS, _draws(severity, 6.0, rng) & gas),
        "Lactate": _draws(severity, 9.0, rng) & _ordered(NEVER["Lactate"], start, rng),
        "Albumin": _draws(severity, 30.0, rng) & _ordered(NEVER["Albumin"], start, rng),
        "RespRate": (rng.random((n, HOURS)) < 0.9) & (rng.random((n, 1)) > NEVER["RespRate"]),
    }
    drawn["SaO2"] = drawn["SaO2"] & (rng.random((n, 1)) > 0.3)
    absent = _gaps(n, rng)
    for name, share in ROUTINE.items():
        drawn[name] = (rng.random((n, HOURS)) < share) & ~absent
    drawn["DBP"] = drawn["SBP"]
    return np.stack([drawn[feature.name] for feature in OPEN_DATA], 2)


def _draws(severity: Array, hours: float, rng: Generator) -> NDArray[np.bool_]:
    """Hours (n, 48) with a draw, on average one in `hours` of them at severity 0; one on admission to nearly all."""
    drawn: NDArray[np.bool_] = rng.random(severity.shape) < np.minimum(np.exp(0.2 * severity) / hours, 0.8)
    drawn[:, 1] |= rng.random(len(severity)) < 0.8
    return drawn


def _ordered(never: float, severity: Array, rng: Generator) -> NDArray[np.bool_]:
    """Whether a test is ordered at all (n, 1); not for a share `never` of stays at severity 0, more of milder ones."""
    odds = never / (1 - never) * np.exp(-0.4 * severity)
    return (rng.random(len(severity)) > odds / (1 + odds))[:, None]


def _gaps(n: int, rng: Generator) -> NDArray[np.bool_]:
    """Hours (n, 48) in which nobody writes anything down, a few hours on end in half of the stays."""
    first, length = rng.integers(0, HOURS, (n, 1)), rng.integers(2, 9, (n, 1))
    hour = np.arange(HOURS)
    return (hour >= first) & (hour < first + length) & (rng.random((n, 1)) < 0.5)


@hookimpl
def datasets() -> Mapping[str, Dataset]:
    return {"synthetic-icu": SyntheticIcu()}
