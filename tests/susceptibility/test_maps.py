"""The six maps of made-up perturbations, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgbench.core.errors import EcgbenchError
from ecgbench.susceptibility.maps import Maps, susceptibility

# three perturbations of two hours and two measurements
DELTA = np.array(
    [
        [[0.5, 0.0], [0.0, -0.25]],
        [[-0.25, 0.0], [0.0, 0.0]],
        [[0.0, 0.0], [0.125, 0.75]],
    ],
    np.float32,
)


def test_each_map_is_what_its_definition_gives_by_hand() -> None:
    maps = Maps.of(DELTA)
    np.testing.assert_allclose(maps.gmp, [[0.5, 0.0], [0.125, 0.75]])
    np.testing.assert_allclose(maps.gap, [[0.25, 0.0], [0.125 / 3, 1 / 3]])
    np.testing.assert_allclose(maps.gpp, [[2 / 3, 0.0], [1 / 3, 2 / 3]])
    np.testing.assert_allclose(maps.s, [[1 / 3, 0.0], [0.125 / 3, 0.5]])
    np.testing.assert_allclose(maps.ganzp, [[0.375, 0.0], [0.125, 0.5]])
    np.testing.assert_allclose(maps.sensitivity, [[(2 / 3) / 0.375, 0.0], [(1 / 3) / 0.125, (2 / 3) / 0.5]])


def test_the_susceptibility_of_a_measurement_is_the_sum_over_hours() -> None:
    np.testing.assert_allclose(susceptibility(DELTA), [1 / 3 + 0.125 / 3, 0.5])


@given(st.integers(0, 1000))
def test_maps_do_not_depend_on_order_sign_or_copies_of_the_perturbations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    delta = (rng.standard_normal((5, 3, 2)) * (rng.random((5, 3, 2)) < 0.5)).astype(np.float32)
    for other in (delta[::-1], -delta, np.concatenate([delta, delta])):
        for (_, first), (_, second) in zip(Maps.of(delta).named(), Maps.of(other).named(), strict=True):
            np.testing.assert_allclose(first, second)
    np.testing.assert_allclose(susceptibility(delta), Maps.of(delta).s.sum(0))


@pytest.mark.parametrize("shape", [(0, 48, 18), (3, 48), (3, 1, 48, 18)])
def test_what_is_no_table_of_hours_by_measurements_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(EcgbenchError, match="expected \\(n, hours, measurements\\), n of 1 or more"):
        Maps.of(np.zeros(shape, np.float32))
