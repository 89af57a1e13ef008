"""What knee MRI of MRNet's kind has in common: three series of slices of each exam, three questions about it."""

from __future__ import annotations

from typing import Literal

Plane = Literal["axial", "coronal", "sagittal"]
Question = Literal["abnormal", "acl", "meniscus"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
TASKS = ("abnormal", "acl", "meniscus")
STANDARD = 255 / 49.73  # standard deviations of MRNet's grey values per unit of x: what its models standardise by
SWEPT = (0.001, 0.003, 0.01, 0.03)  # eps of a run, in [0, 1]


def classes(question: Question) -> tuple[str, str]:
    """The two answers, the second where the finding is there."""
    return {
        "abnormal": ("normal", "abnormal"),
        "acl": ("no ACL tear", "ACL tear"),
        "meniscus": ("no meniscal tear", "meniscal tear"),
    }[question]
