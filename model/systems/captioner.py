"""The base class of the systems: image features to a condition, a condition to words."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from multispace.errors import ModelError
from multispace.model.batch_partition import WHOLE, Partition
from multispace.model.cross_entropy import linear_cross_entropy
from multispace.model.decoder import Decoder
from multispace.model.encoder import Words
from multispace.model.latent.losses import Loss, free_bits
from multispace.model.latent.posterior import Posterior
from multispace.model.latent.schedules import Temperature
from multispace.model.options import SystemOptions

Latents = Literal["mode", "sample", "left-out"]


class Captioner(nn.Module):
    """A captioning model. A subclass defines the posterior of the latents and its cost."""

    reads_captions = False  # whether the posterior in training reads the caption
    dropped_channels: tuple[str, ...] = ()  # latents that latent dropout leaves out
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
        """Set the moments that features are standardised with.

        :param mean: over the training images, (D,)
        :param std: over the training images, (D,)
        """
        self.feature_mean.copy_(mean)
        self.feature_deviation.copy_(std)

    def standardise(self, features: Tensor) -> Tensor:
        """Standardise features and divide them by sqrt(D). (B, D)

        Over the training images the result has mean 0 and a mean squared length of 1. With
        features of std 1 a step of Adam would change a sum over D features by up to D times the
        learning rate, and an early step would saturate the LSTM.
        """
        centered = (features.float() - self.feature_mean) / self.feature_deviation
        return centered / math.sqrt(self.options.feature_size)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return the distribution of the latents.

        :param features: (B, D)
        :param words: one caption per image, for systems whose posterior reads captions
            (``reads_captions``). Without captions such a system returns the distribution that it
            uses for new images, its prior.
        """
        raise NotImplementedError

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return the cost of the batch mean KLs at an optimizer step, in nats. ()"""
        raise NotImplementedError

    def schedule(self, step: int) -> dict[str, float]:
        """Return the weights and targets of an optimizer step, by name."""
        raise NotImplementedError

    def warnings(self) -> list[str]:
        """Return warnings about the options, one line each."""
        return []

    def condition(self, features: Tensor, latents: Latents = "mode") -> Tensor:
        """Return the decoder's condition for new images.

        :param features: (B, D)
        :param latents: the mode of the latents, a sample, or none at all (``left-out``)
        :returns: (B, C)
        :raises ModelError: the system was not trained with latent dropout, and the latents are to
            be left out
        """
        posterior = self.posterior(features)
        if latents == "sample":
            return posterior.sample()
        if latents == "left-out":
            if not (self.dropped_channels and self.options.latent_dropout):
                raise ModelError(
                    f"{self.options.system} was trained without latent dropout and needs its "
                    "latents",
                    hint="use the mode or samples",
                )
            return posterior.condition(
                posterior.without(posterior.latents(), self.dropped_channels)
            )
        return posterior.mode()

    def loss(
        self,
        features: Tensor,
        inputs: Tensor,
        targets: Tensor,
        batch_sizes: Sequence[int],
        step: int,
        partition: Partition = WHOLE,
    ) -> Loss:
        """Return the loss of a packed batch at an optimizer step.

        :param features: (B, D)
        :param inputs: words packed step by step, int64 (N,); BOS at step 0
        :param targets: the next word of each input, int64 (N,)
        :param batch_sizes: number of captions that have a token at each step, never increasing
        :param step: number of optimizer steps done
        :param partition: the part of the batch that these captions are. The terms of the loss
            are those of the whole batch.
        """
        words = Words(inputs, batch_sizes)
        condition, posterior = self.draw_condition(features, words, step, partition)
        options, captions = self.options, len(condition)
        entropy, nats = linear_cross_entropy(
            self.decoder.outputs(condition, inputs, batch_sizes),
            self.decoder.output_weight,
            self.decoder.output.bias,
            targets,
            smoothing=options.label_smoothing if self.training else 0.0,
        )
        entropy, nats, kl_z, kl_c, auxiliary = partition.means(
            entropy / captions,
            nats / captions,
            posterior.kl_z(entropy.device),
            posterior.kl_c(entropy.device),
            self.auxiliary_loss(features, words, posterior),
        )
        charged_z = kl_z
        if posterior.z and options.free_bits:
            (dimensions,) = partition.means(posterior.z.kl().mean(0))
            charged_z = free_bits(dimensions, options.free_bits)
        total = entropy + self.penalty(charged_z, kl_c, step) + auxiliary
        return Loss(total, nats, kl_z, kl_c)

    def draw_condition(
        self, features: Tensor, words: Words, step: int, partition: Partition
    ) -> tuple[Tensor, Posterior]:
        """Draw the condition of a training step from the posterior.

        :returns: the condition (B, C), and the posterior
        """
        posterior = self.posterior(features, words)
        latents = posterior.relaxed_latents(self.temperature(step), partition)
        if self.training and self.dropped_channels and self.options.latent_dropout:
            uniform = partition.draw(latents[:, :1].detach(), Tensor.uniform_)
            dropped = uniform < self.options.latent_dropout  # (B, 1)
            latents = posterior.without(latents, self.dropped_channels, dropped)
        return posterior.condition(latents), posterior

    def auxiliary_loss(self, features: Tensor, words: Words, posterior: Posterior) -> Tensor:
        """Return the batch mean of a further loss, besides captions and KL, in nats. ()

        :param posterior: of these captions
        """
        return features.new_zeros((), dtype=torch.float32)
