"""Every test runs on one thread, so that its time and its rounding are the same wherever it runs; none is skipped in
silence."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import torch

torch.set_num_threads(1)
MAY_SKIP = ("real", "postgresql", "browser")
"""Marks of tests that need recordings, a database server or a browser; all else is installed everywhere."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test that needs none of these has failed."""
    report = yield
    return report if any(map(item.get_closest_marker, MAY_SKIP)) else unskipped(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """So has a whole file that skips itself, as `importorskip` at its top would."""
    return unskipped((yield))


def unskipped(report: Any) -> Any:
    """The report, a skip in it being a failure."""
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"{report.longrepr[2]}; expected a test that runs"
    return report
