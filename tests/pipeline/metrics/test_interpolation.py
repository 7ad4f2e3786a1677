import numpy as np
import pytest

from multispace.pipeline.metrics.interpolation import interpolate

# Three points of one curve, not in the order of x: (0, 1), (1, 3), (4, 0).
X = np.array([[1.0, 0.0, 4.0]])
Y = np.array([[[3.0, 30.0], [1.0, 10.0], [0.0, 0.0]]])


@pytest.mark.parametrize(
    ("at", "value"), [(0, 1), (0.25, 1.5), (0.5, 2), (1, 3), (2, 2), (3, 1), (4, 0)]
)
def test_values_between_neighbors_by_hand(at, value):
    (found,) = interpolate(X, Y, np.array([at]))
    assert found[0] == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("at", [-1e-9, 4 + 1e-9, np.nan])
def test_nothing_is_extrapolated(at):
    assert np.isnan(interpolate(X, Y, np.array([at]))).all()


def test_each_curve_has_its_own_place_and_all_values_are_read():
    found = interpolate(np.vstack([X, X + 1, X]), np.vstack([Y, Y, Y]), np.array([0.5, 0.5, 4.0]))
    np.testing.assert_array_equal(found, [[2, 20], [np.nan, np.nan], [0, 0]])


def test_a_point_itself_is_returned_without_rounding():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(50, 6)), random.normal(size=(50, 6, 2))
    assert np.array_equal(interpolate(x, y, x[:, 3]), y[:, 3])


def test_a_curve_of_one_point_has_a_value_there_alone():
    x, y = np.array([[2.0], [2.0]]), np.array([[[7.0]], [[7.0]]])
    np.testing.assert_array_equal(interpolate(x, y, np.array([2.0, 2.1])), [[7], [np.nan]])
