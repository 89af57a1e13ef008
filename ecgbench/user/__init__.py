"""A model and signals that a user has: read strictly, asked as a victim is, and left as they were."""

from __future__ import annotations

from ecgbench.user.asking import identity_of
from ecgbench.user.model import UserModel, one_line, opened
from ecgbench.user.task import signals_and_labels, task_of

__all__ = ["UserModel", "identity_of", "one_line", "opened", "signals_and_labels", "task_of"]
