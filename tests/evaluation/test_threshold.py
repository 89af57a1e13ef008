"""The threshold of a class is the logit from which on saying yes has the largest F1."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ecgbench.evaluation.threshold import best_thresholds

ROWS = st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.sampled_from([0.5, 1.0, 2.0])), min_size=1, max_size=12)


def f1(logit: np.ndarray, yes: np.ndarray, weight: np.ndarray, threshold: float) -> float:
    said = logit >= threshold
    return float(2 * weight[said & yes].sum() / (weight[said].sum() + weight[yes].sum()))


@given(ROWS)
def test_no_other_logit_has_a_larger_f1_and_of_equally_good_ones_it_is_the_largest(
    rows: list[tuple[int, bool, float]],
) -> None:
    logit, yes, weight = (np.array(part) for part in zip(*rows, strict=True))
    (found,) = best_thresholds(logit[:, None].astype(float), yes[:, None], weight)
    if not yes.any():
        assert np.isnan(found)
        return
    each = {float(at): f1(logit, yes, weight, at) for at in set(logit.tolist())}
    assert found == max(at for at, value in each.items() if value >= max(each.values()) - 1e-12)


def test_each_class_has_its_own() -> None:
    logits = np.array([[3.0, -1.0], [1.0, 0.0], [2.0, -2.0]])
    holds = np.array([[True, False], [False, True], [True, True]])
    assert best_thresholds(logits, holds, np.ones(3)).tolist() == [2.0, -2.0]
