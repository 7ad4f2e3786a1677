"""Linear interpolation on many curves at once, without extrapolation."""

import numpy as np

from multispace.pipeline.metrics.bootstrap import Floats


def interpolate(x: Floats, y: Floats, at: Floats) -> Floats:
    """Return the values of B curves at one place each, linear between neighbors in ``x``.

    :param x: of the K points of each curve, in any order, (B, K)
    :param y: M values at each point, (B, K, M)
    :param at: the place on each curve, (B,)
    :returns: (B, M); NaN where the place is outside of the points
    """
    order = np.argsort(x, axis=1, kind="stable")
    x = np.take_along_axis(x, order, axis=1)
    y = np.take_along_axis(y, order[:, :, None], axis=1)
    rows = np.arange(len(x))
    right = (x < at[:, None]).sum(1)  # the first point that is not left of the place
    inside = (right < x.shape[1]) & (x[:, 0] <= at)
    right = np.minimum(right, x.shape[1] - 1)
    left = np.where(x[rows, right] == at, right, np.maximum(right - 1, 0))
    width = x[rows, right] - x[rows, left]
    # At a point itself its values are returned without rounding.
    weight = np.divide(at - x[rows, left], width, out=np.zeros(len(x)), where=width > 0)[:, None]
    found = (1 - weight) * y[rows, left] + weight * y[rows, right]
    return np.where(inside[:, None], found, np.nan)
