"""Records as a pandas table, long (a row for each eps) or wide (a row for each record)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ecgbench.results.record import Record

if TYPE_CHECKING:
    from pandas import DataFrame

FACTS = ("key", "status", "dataset", "model", "defense", "attack", "threat", "protocol", "seed", "limit", "n", "unit")
METRICS = ("acc", "prec", "f1")


def frame(records: Iterable[Record], *, wide: bool = False) -> DataFrame:
    """A table of records: what ran, `flags` (codes with spaces between), `headline`, and figures.

    Long: a row for each eps (0 is clean) with `acc`, `prec` and `f1`, the ends of their 95 % intervals (`acc_low`,
    `acc_high`, ...), and `auroc`, `average_precision` and `brier` where a task has two classes. Wide: a row for each
    record with `acc@0.05` and the like. A record without scores has one row, without figures.
    """
    from pandas import DataFrame

    rows = [row for record in records for row in ([_wide(record)] if wide else _long(record))]
    return DataFrame(rows)


def _facts(record: Record) -> dict[str, Any]:
    facts = {name: getattr(record, name) for name in FACTS}
    return facts | {"headline": record.headline, "flags": " ".join(record.flags)}


def _long(record: Record) -> Iterator[dict[str, Any]]:
    if not record.scores:
        yield _facts(record)
    for score in record.scores:
        figures: dict[str, Any] = {"eps": score.eps}
        for metric in METRICS:
            low, high = getattr(score.interval, metric)
            figures |= {metric: getattr(score, metric), f"{metric}_low": low, f"{metric}_high": high}
        if score.binary is not None and len(score.binary) == 1:
            (binary,) = score.binary.values()
            for name in ("auroc", "average_precision", "brier"):
                estimate = getattr(binary, name)
                figures[name] = None if estimate is None else estimate.value
        yield _facts(record) | figures


def _wide(record: Record) -> dict[str, Any]:
    figures = {f"{metric}@{score.eps:g}": getattr(score, metric) for score in record.scores for metric in METRICS}
    return _facts(record) | figures
