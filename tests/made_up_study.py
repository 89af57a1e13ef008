"""A made-up study as files: three values of two methods."""

from __future__ import annotations

from pathlib import Path

import pytest

STUDY = """
citation = "Somebody 2020, table 1"
values = "values.csv"
dataset = "beats"
threat = "linf"
protocol = "standard"
[model]
MLP = "mlp"
[attack]
PGD = "pgd"
[method]
plain = "none"
odd = "odd[a=1]"
"""
VALUES = """table,model,attack,metric,method,eps,value
1,MLP,PGD,acc,plain,0,0.9
1,MLP,PGD,acc,plain,0.1,0.5
1,MLP,PGD,acc,odd,0.1,0.7
"""
OTHERWISE = """
[[otherwise]]
where = { attack = "PGD", model = "MLP" }
protocol = "last"
partial = "3 epochs"
method = { plain = "none[epochs=3]" }
[[otherwise]]
where.method = "odd"
protocol = "limit[n=5]"
[otherwise.method]
odd = "odd[a=2]"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The study's TOML, its values beside it."""
    (tmp_path / "values.csv").write_text(VALUES)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"
