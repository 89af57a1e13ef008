"""No test is skipped in silence: only what needs recordings may be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest


@pytest.mark.real
def test_on_recordings():
    pytest.skip("no recordings")


def test_with_a_library():
    pytest.importorskip("no_such_library")


@pytest.mark.skipif(True, reason="not today")
def test_on_another_day():
    pass


@pytest.mark.xfail(reason="known")
def test_of_a_known_fault():
    assert False
"""


def test_a_skipped_test_fails_unless_it_needs_recordings(tmp_path: Path) -> None:
    conftest = Path(__file__).parent / "conftest.py"
    (tmp_path / "conftest.py").write_text(conftest.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = real: needs recordings\n")
    (tmp_path / "test_them.py").write_text(TESTS)
    (tmp_path / "test_a_file.py").write_text("import pytest\npytest.importorskip('no_such_library')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tests, whole = (
        subprocess.run([*command, what], cwd=tmp_path, capture_output=True, text=True, check=False).stdout
        for what in ("test_them.py", ".")
    )
    assert "1 failed, 1 skipped, 1 xfailed, 1 error" in tests and "not today; expected a test that runs" in tests, tests
    assert "1 error" in whole and "No module named 'no_such_library'; expected a test that runs" in whole, whole
