"""Which distribution this package comes from, and whether another one of the same import name is in its way."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distributions, version

from ecgbench.core.errors import EcgbenchError

DISTRIBUTION = "ecgbench-robustness"
OTHER = "ecgbench"
"""A project of somebody else on PyPI that installs into a package of the same name."""


def installed_version() -> str:
    """The version of this distribution; "unknown" in a checkout that is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def check_alone() -> None:
    """Raises EcgbenchError where the other project is installed too: each overwrites files of the other."""
    for other in distributions(name=OTHER):
        if any(file.parts[0] == "ecgbench" for file in other.files or ()):
            raise EcgbenchError(
                f"the distribution {OTHER} {other.version} is another project that installs into the same package; "
                f"expected {DISTRIBUTION} alone: `pip uninstall {OTHER} {DISTRIBUTION}`, then install it again."
            )
