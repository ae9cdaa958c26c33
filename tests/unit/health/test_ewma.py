"""The averages of `aibalance.health`."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from aibalance import ConfigError
from aibalance.health import Ewma, TimeWeightedEwma


def test_the_share_alone_changes_the_average() -> None:
    for alpha, after in ((0.1, 9.0), (0.5, 5.0), (1.0, 0.0)):
        average = Ewma(alpha=alpha)
        assert average.value is None
        assert average.update(10) == average.value == 10.0
        assert average.update(0) == average.value == pytest.approx(after)
        assert average.alpha == alpha


def test_the_time_constant_and_the_instants_alone_change_the_average() -> None:
    for tau, seconds in ((1.0, 1.0), (5.0, 1.0), (5.0, 2.5)):
        average = TimeWeightedEwma(tau=tau)
        assert average.value is None
        average.update(10.0, now=3.0)
        assert average.update(0.0, now=3.0 + seconds) == pytest.approx(10 * math.exp(-seconds / tau), rel=1e-12)
        assert (average.tau, average.half_life) == (tau, pytest.approx(tau * math.log(2)))


def test_time_that_stands_still_or_goes_backwards_changes_nothing() -> None:
    average = TimeWeightedEwma(tau=1.0)
    average.update(4.0, now=10.0)
    assert average.update(100.0, now=10.0) == average.update(100.0, now=2.0) == 4.0
    # Nor did the earlier instant become the latest.
    assert average.update(0.0, now=11.0) == pytest.approx(4 / math.e)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, math.nan, math.inf, 10**400, "x", None])
def test_a_share_out_of_range_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        Ewma(alpha=wrong)


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, 10**400, "x", None])
def test_a_time_constant_out_of_range_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="tau"):
        TimeWeightedEwma(tau=wrong)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 10**400, 1e301, "x", None])
def test_a_sample_or_instant_out_of_range_changes_nothing(wrong: Any) -> None:
    plain, timed = Ewma(alpha=0.5), TimeWeightedEwma(tau=1.0)
    plain.update(1.0)
    timed.update(1.0, now=0.0)
    with pytest.raises(ConfigError, match="value"):
        plain.update(wrong)
    with pytest.raises(ConfigError, match="value"):
        timed.update(wrong, now=1.0)
    with pytest.raises(ConfigError, match="now"):
        timed.update(0.0, now=wrong)
    assert plain.value == timed.value == 1.0
    assert timed.update(0.0, now=1.0) == pytest.approx(1 / math.e)


def test_copies_go_on_where_they_were() -> None:
    plain, timed = Ewma(alpha=0.25), TimeWeightedEwma(tau=2.0)
    for average in (plain, timed):
        assert "nothing yet" in repr(average)
        assert repr(pickle.loads(pickle.dumps(average))) == repr(average)
    plain.update(8.0)
    timed.update(8.0, now=1.0)
    copies = pickle.loads(pickle.dumps((plain, timed)))
    assert [repr(c) for c in copies] == ["<Ewma alpha=0.25: 8.0>", "<TimeWeightedEwma tau=2.0: 8.0>"]
    assert copies[0].update(0.0) == plain.update(0.0)
    assert copies[1].update(0.0, now=2.0) == timed.update(0.0, now=2.0)
