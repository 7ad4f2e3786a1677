"""Linear layers that read standardised features, with their initial weights."""

import math

import torch
from torch import nn

from multispace.model.options import SystemOptions


def feature_layer(options: SystemOptions, size: int, spread: float = 1.0) -> nn.Linear:
    """Return a linear layer on standardised features.

    :param size: number of outputs
    :param spread: the outputs start with a std of 0.6 times this factor
    """
    linear = nn.Linear(options.feature_size, size)
    nn.init.uniform_(linear.weight, -spread, spread)
    nn.init.zeros_(linear.bias)
    return linear


def gaussian_layer(options: SystemOptions) -> nn.Linear:
    """Return a linear layer on standardised features for the means and log variances of z.

    The means start with a std of 0.6 and the posterior with ``first_deviation``. With as much
    noise as signal the decoder starts to use z much later, and the KL term then removes what z
    carries before the decoder has learnt to read it.
    """
    linear = feature_layer(options, 2 * options.z_size)
    with torch.no_grad():
        linear.bias[options.z_size :] = 2 * math.log(options.first_deviation)
    return linear
