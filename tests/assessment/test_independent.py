"""Estimates agree with samplics, an independent package for samples, where it is installed.

It is not in requirements.lock: `pip install samplics`, then run this file.
"""

import numpy as np
import pytest

from pointcover.assessment.estimators import estimate
from tests.assessment.test_estimators import stratum

samplics = pytest.importorskip("samplics")


def ratio(strata, above, below):
    """Estimate a ratio and its standard error by Taylor linearisation."""
    from samplics.estimation import TaylorEstimator
    from samplics.utils.types import PopParam

    def each(values):
        return np.concatenate([values(one).astype(float) for one in strata])

    weights = each(lambda one: np.full(len(one), one.units / len(one)))
    names = each(lambda one: np.full(len(one), strata.index(one)))
    found = TaylorEstimator(param=PopParam.ratio)
    fpc = {float(number): 1 - len(one) / one.units for number, one in enumerate(strata)}
    found.estimate(
        y=each(above),
        x=each(below),
        samp_weight=weights,
        stratum=names,
        psu=np.arange(len(names)),
        fpc=fpc,
    )
    return float(found.point_est), float(found.stderror)


@pytest.mark.parametrize("seed", range(5))
def test_ratios_and_their_errors_are_those_of_samplics(seed):
    generator = np.random.default_rng(seed)
    strata = [
        stratum(units, generator.integers(0, 3, points), generator.integers(0, 3, points), name)
        for name, units, points in (("a", 900, 80), ("b", 5_000, 40), ("c", 300, 60))
    ]
    found = estimate(strata, 3)
    pairs = [(found.overall, lambda s: s.map_ids == s.reference_ids, lambda s: s.map_ids >= 0)]
    for k in range(3):
        right = lambda s, k=k: (s.map_ids == k) & (s.reference_ids == k)  # noqa: E731
        pairs += [
            (found.users[k], right, lambda s, k=k: s.map_ids == k),
            (found.producers[k], right, lambda s, k=k: s.reference_ids == k),
            (
                found.f1[k],
                lambda s, k=k: 2 * ((s.map_ids == k) & (s.reference_ids == k)),
                lambda s, k=k: (s.map_ids == k).astype(int) + (s.reference_ids == k),
            ),
            (
                found.areas[k].scaled(1 / 6_200),
                lambda s, k=k: s.reference_ids == k,
                lambda s: s.map_ids >= 0,
            ),
        ]
    for ours, above, below in pairs:
        value, error = ratio(strata, above, below)
        assert ours.value == pytest.approx(value, rel=1e-9)
        assert ours.standard_error == pytest.approx(error, rel=1e-6)
