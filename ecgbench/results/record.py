"""One cell's result as one JSON document: what ran, how it scored, how far the number can be believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from ecgbench.checks.cheap import Check
from ecgbench.checks.flags import OF_AUDITS
from ecgbench.checks.verdict import joined, lines_of_flags, lines_of_notes, lines_of_scores, sentence
from ecgbench.core.errors import StoreError
from ecgbench.core.interfaces import Determinism
from ecgbench.core.outputs import Outputs, SingleLabel
from ecgbench.evaluation.metrics import Curve, Score
from ecgbench.evaluation.uncertainty import Uncertainty

SCHEMA = 2


class Cost(Struct, frozen=True, kw_only=True):
    """Work done: seconds of this machine, and samples through the victim, the measure that carries over.

    `queries` is the mean number of forwards per attacked sample, over the whole sweep.
    """

    train_seconds: float = 0.0
    attack_seconds: float = 0.0
    forwards: int = 0
    gradients: int = 0
    queries: float = 0.0


class Provenance(Struct, frozen=True, kw_only=True):
    """What made the numbers: keys of the stages, digests of data and outcomes, versions.

    `weights` is the digest of the victim's weights; `identity` is the pre-image of the outcomes' key;
    `plugins` names the distribution that offered each part; `checkpoint` is the key of the published victim that was
    used, if one was.
    """

    victim: str
    outcomes: str
    data: str
    outcomes_digest: str
    versions: dict[str, str]
    plugins: dict[str, str]
    identity: dict[str, Any]
    checkpoint: str | None = None
    weights: str | None = None


class Record(Struct, frozen=True, kw_only=True):
    """The result of one cell; fractions are 0..1, selectors are canonical, eps is in `unit`.

    `determinism` says what fixes the attack's answer for a sample beside the seed: the "sample" alone, the "chunk"
    it was attacked in, or "none". `goes_on` says whether all samples were attacked to the end at every eps, adversarial
    already or not: where not, AUROC, average precision and Brier score are better than the attack could leave them.
    `scores` begins with eps 0, the clean score. `checks` lists every check made, raised or not. A record whose `status`
    is not "ok" has an `error` and no scores.
    """

    schema: Literal[2] = 2
    status: Literal["ok", "failed", "skipped"]
    key: str
    dataset: str
    model: str
    defense: str
    attack: str
    determinism: Determinism = "sample"
    goes_on: bool = False
    threat: str
    protocol: str
    seed: int
    limit: int | None
    eps: tuple[float, ...]
    headline: float
    n: int = 0
    groups: int | None = None
    classes: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    unit: str = ""
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    weighting: str = ""
    skip_unpredicted: bool = False
    challenge: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    curve: Curve | None = None
    uncertainty: Uncertainty | None = None
    checks: tuple[Check, ...] = ()
    error: str | None = None
    cost: Cost = Cost()
    provenance: Provenance | None = None

    @property
    def outputs(self) -> Outputs:
        """What labels and predictions mean."""
        return SingleLabel(self.classes)

    @property
    def flags(self) -> tuple[str, ...]:
        """Codes of the checks that were raised."""
        return tuple(check.code for check in self.checks if check.raised)

    @property
    def audited(self) -> bool:
        """Whether the costly checks were made, too."""
        return any(check.code in OF_AUDITS for check in self.checks)

    def score(self, eps: float) -> Score | None:
        """The score at `eps` (0: clean), None if it was not run."""
        return next((score for score in self.scores if score.eps == eps), None)

    def __str__(self) -> str:
        """The verdict in less than 25 lines: figures over eps, flags, and the number to cite."""
        return joined(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.model} on {self.dataset}, defense {self.defense}, attack {self.attack}"
        if not self.scores:
            yield f"{self.status}: {self.error}"
            return
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        yield f"n {self.n}, {'no' if self.groups is None else self.groups} groups; by class: {counts}"
        unit = "the unit of x" if self.unit == "1" else self.unit
        yield f"threat {self.threat}, eps in {unit}; protocol {self.protocol}; seed {self.seed}"
        yield from lines_of_notes(self.notes)
        method = "" if self.uncertainty is None else self.uncertainty.method
        yield from lines_of_scores(self.scores, self.headline, method)
        yield from lines_of_flags(self.checks)
        yield sentence(self.score(self.headline), bool(self.flags))

    def json(self) -> bytes:
        """One line, keys in a fixed order."""
        return msgspec.json.encode(self)

    def pretty(self) -> bytes:
        """The same for a file people read and compare: indented, ending in a newline."""
        return msgspec.json.format(self.json(), indent=2) + b"\n"


def read_record(text: bytes, where: str) -> Record:
    """The record in `text`. Raises StoreError, naming `where` and the fault, if it is not one."""
    try:
        return msgspec.json.decode(text, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise StoreError(f"{where} is not a record of schema {SCHEMA}: {fault}.") from None


def schema() -> dict[str, Any]:
    """The JSON Schema of a record."""
    return msgspec.json.schema(Record)
