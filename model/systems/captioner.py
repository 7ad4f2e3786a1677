"""What all systems share: an image's features become a condition, a condition becomes words."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from multispace.model.cross_entropy import linear_cross_entropy
from multispace.model.decoder import Decoder
from multispace.model.encoder import Words
from multispace.model.latent.losses import Loss, free_bits
from multispace.model.latent.posterior import Posterior
from multispace.model.latent.schedules import (
    Temperature,
)
from multispace.model.options import SystemOptions
from multispace.model.partition import WHOLE, Partition


class Captioner(nn.Module):
    """A captioner: features to a condition, a condition to words."""

    reads_captions = False  # whether the posterior in training sees the caption
    feature_mean: Tensor
    feature_deviation: Tensor

    def __init__(self, options: SystemOptions, condition: int) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("feature_mean", torch.zeros(options.feature_size))
        self.register_buffer("feature_deviation", torch.ones(options.feature_size))
        self.decoder = Decoder(
            words=options.words,
            condition=condition,
            embedding=options.embedding,
            hidden=options.hidden,
            dropout=options.dropout,
            cell=options.cell,
            layers=options.layers,
            tie=options.tie_embeddings,
            word_dropout=options.word_dropout,
        )
        self.temperature = Temperature(
            options.temperature, options.temperature_min, options.temperature_rate
        )

    def set_feature_moments(self, mean: Tensor, std: Tensor) -> None:
        """Set what features are standardised with: (D,) each, of the training images."""
        self.feature_mean.copy_(mean)
        self.feature_deviation.copy_(std)

    def standardise(self, features: Tensor) -> Tensor:
        """Return features of mean 0 and, over the training images, length 1 on average. (B, D)

        Were each feature of deviation 1, a step of Adam would move a sum over D of them by up to
        D times the learning rate, and an early step would drive the LSTM into saturation.
        """
        centred = (features.float() - self.feature_mean) / self.feature_deviation
        return centred / math.sqrt(self.options.feature_size)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return what the latent space holds for images, features (B, D).

        :param words: a caption of each, for systems that read them (``reads_captions``); without
            them such a system returns what it has in use, its prior
        """
        raise NotImplementedError

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return what the batch mean KLs cost at an optimizer step, in nats. ()"""
        raise NotImplementedError

    def schedule(self, step: int) -> dict[str, float]:
        """Return the weights and targets in force at an optimizer step, by name."""
        raise NotImplementedError

    def warnings(self) -> list[str]:
        """Return what is odd about the options, a line each."""
        return []

    def condition(self, features: Tensor, *, sample: bool = False) -> Tensor:
        """Return the decoder's condition in use, (B, C): the posterior's mode, or a draw."""
        posterior = self.posterior(features)
        return posterior.sample() if sample else posterior.mode()

    def loss(
        self,
        features: Tensor,
        inputs: Tensor,
        targets: Tensor,
        batch_sizes: Sequence[int],
        step: int,
        partition: Partition = WHOLE,
    ) -> Loss:
        """Return the training loss of a packed batch at an optimizer step.

        :param features: (B, D)
        :param inputs: int64 (N,), and ``targets`` and ``active``, as in ``multispace.data.batches``
        :param partition: which captions of the batch these are; the terms are those of all
        """
        words = Words(inputs, batch_sizes)
        condition, posterior = self._drawn(features, words, step, partition)
        options, captions = self.options, len(condition)
        entropy, nats = linear_cross_entropy(
            self.decoder.outputs(condition, inputs, batch_sizes),
            self.decoder.output_weight,
            self.decoder.output.bias,
            targets,
            smoothing=options.label_smoothing if self.training else 0.0,
        )
        entropy, nats, kl_z, kl_c, aside = partition.means(
            entropy / captions,
            nats / captions,
            posterior.kl_z(),
            posterior.kl_c(),
            self._aside(features, words),
        )
        paid_z = kl_z
        if posterior.z and options.free_bits:
            (dimensions,) = partition.means(posterior.z.kl().mean(0))
            paid_z = free_bits(dimensions, options.free_bits)
        return Loss(entropy + self.penalty(paid_z, kl_c, step) + aside, nats, kl_z, kl_c)

    def _drawn(
        self, features: Tensor, words: Words, step: int, partition: Partition
    ) -> tuple[Tensor, Posterior]:
        """Return the condition as training has it, (B, C), and what it is drawn from."""
        posterior = self.posterior(features, words)
        return posterior.relaxed(self.temperature(step), partition), posterior

    def _aside(self, features: Tensor, words: Words) -> Tensor:
        """Return what else is learnt beside captions and their price: a batch mean. ()"""
        return features.new_zeros((), dtype=torch.float32)


def read_features(options: SystemOptions, size: int, spread: float = 1.0) -> nn.Linear:
    """Return a linear map of standardised features, its outputs of deviation 0.6 ``spread``."""
    linear = nn.Linear(options.feature_size, size)
    nn.init.uniform_(linear.weight, -spread, spread)
    nn.init.zeros_(linear.bias)
    return linear


def read_gaussian(options: SystemOptions) -> nn.Linear:
    """Return a map of standardised features to means and log variances of z, side by side.

    Means begin at a deviation of 0.6. With as much noise, or more, the decoder hardly begins to
    use z; what it has learnt to use, a price on the KL takes from it slowly.
    """
    linear = read_features(options, 2 * options.z_size)
    with torch.no_grad():
        linear.bias[options.z_size :] = 2 * math.log(options.first_deviation)
    return linear
