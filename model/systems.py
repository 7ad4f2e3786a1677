"""The systems: how a picture's features become the decoder's condition, and at what price.

All share :class:`System`; each says what its posterior is and what its loss is.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.cross_entropy import linear_cross_entropy
from model.decoder import Decoder
from model.errors import ModelError
from model.latents import Categoricals, DiagonalGaussian
from model.objective import Loss, batch_kl, capacity_penalty, free_bits
from model.options import SystemOptions
from model.schedules import (
    Capacity,
    CyclicalAnnealing,
    LogisticAnnealing,
    Temperature,
    categorical_cap,
    linear_annealing,
)
from model.share import WHOLE, Share


@dataclass(frozen=True)
class Posterior:
    """What a system believes about B pictures; a channel that it lacks is None."""

    z: DiagonalGaussian | None = None
    c: Categoricals | None = None

    def relaxed(self, temperature: float, share: Share = WHOLE) -> Tensor:
        """Draw [z ; c] as in training: c softened so that gradients pass. (B, C)"""
        return _join(
            self.z.sample(share) if self.z else None,
            self.c.sample(temperature, share) if self.c else None,
        )

    def sample(self) -> Tensor:
        """Draw [z ; c] as in use: c one-hot. (B, C)"""
        return _join(
            self.z.sample() if self.z else None, self.c.one_hot_sample() if self.c else None
        )

    def mode(self) -> Tensor:
        """Return the mean of z and the one-hot arg max of c. (B, C)"""
        return _join(self.z.mode() if self.z else None, self.c.mode() if self.c else None)

    def kl_z(self) -> Tensor:
        """Batch mean KL of z, in nats. ()"""
        return batch_kl(self.z.kl()) if self.z else torch.zeros(())

    def kl_c(self) -> Tensor:
        """Batch mean KL of c, in nats. ()"""
        return batch_kl(self.c.kl()) if self.c else torch.zeros(())


def _join(*channels: Tensor | None) -> Tensor:
    return torch.cat([channel for channel in channels if channel is not None], dim=-1)


class System(nn.Module):
    """A captioner: features to a condition, a condition to words."""

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

    def set_feature_moments(self, mean: Tensor, deviation: Tensor) -> None:
        """Set what features are standardised with: (D,) each, of the training pictures."""
        self.feature_mean.copy_(mean)
        self.feature_deviation.copy_(deviation)

    def standardise(self, features: Tensor) -> Tensor:
        """Return features of mean 0 and, over the training pictures, length 1 on average. (B, D)

        Were each feature of deviation 1, a step of Adam would move a sum over D of them by up to
        D times the learning rate, and an early step would drive the LSTM into saturation.
        """
        centred = (features.float() - self.feature_mean) / self.feature_deviation
        return centred / math.sqrt(self.options.feature_size)

    def posterior(self, features: Tensor) -> Posterior:
        """Return what the latent space holds for pictures, features (B, D)."""
        raise NotImplementedError

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return what the batch mean KLs cost at an optimiser step, in nats. ()"""
        raise NotImplementedError

    def schedule(self, step: int) -> dict[str, float]:
        """Return the weights and targets in force at an optimiser step, by name."""
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
        active: Sequence[int],
        step: int,
        share: Share = WHOLE,
    ) -> Loss:
        """Return the training loss of a packed batch at an optimiser step.

        :param features: (B, D)
        :param inputs: int64 (N,), and ``targets`` and ``active``, as in ``data.batches``
        :param share: which captions of the batch these are; the terms are those of all
        """
        condition, posterior = self._drawn(features, step, share)
        options, captions = self.options, len(condition)
        entropy, nats = linear_cross_entropy(
            self.decoder.outputs(condition, inputs, active),
            self.decoder.output_weight,
            self.decoder.output.bias,
            targets,
            smoothing=options.label_smoothing if self.training else 0.0,
        )
        entropy, nats, kl_z, kl_c = share.means(
            entropy / captions, nats / captions, posterior.kl_z(), posterior.kl_c()
        )
        paid_z = kl_z
        if posterior.z and options.free_bits:
            (dimensions,) = share.means(posterior.z.kl().mean(0))
            paid_z = free_bits(dimensions, options.free_bits)
        return Loss(entropy + self.penalty(paid_z, kl_c, step), nats, kl_z, kl_c)

    def _drawn(self, features: Tensor, step: int, share: Share) -> tuple[Tensor, Posterior]:
        """Return the condition as training has it, (B, C), and what it is drawn from."""
        posterior = self.posterior(features)
        return posterior.relaxed(self.temperature(step), share), posterior


class Base(System):
    """CNN + RNN, trained by teacher forcing: e = W v is the condition."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.embedding)
        self.embed = _read_features(options, options.embedding)

    def posterior(self, features: Tensor) -> Posterior:
        """Return a posterior without channels."""
        return Posterior()

    def condition(self, features: Tensor, *, sample: bool = False) -> Tensor:
        """Return e = W v. (B, embedding)

        :raises ModelError: a sample is asked for; there is nothing to sample.
        """
        if sample:
            raise ModelError("base has no latent space to sample from; use latent or multispace")
        return self.embed(self.standardise(features))

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return 0."""
        return kl_z

    def schedule(self, step: int) -> dict[str, float]:
        """Return nothing: the loss does not change with time."""
        return {}

    def _drawn(self, features: Tensor, step: int, share: Share) -> tuple[Tensor, Posterior]:
        """Return e = W v, and nothing drawn: the loss is the reconstruction alone."""
        return self.condition(features), self.posterior(features)


class Latent(System):
    """The variational baseline: one Gaussian, its KL annealed by a weight."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size)
        self.z_parameters = _read_features(options, 2 * options.z_size)
        self.annealing = _annealing(options)

    def posterior(self, features: Tensor) -> Posterior:
        """Return q(z | v)."""
        parameters = self.z_parameters(self.standardise(features))
        return Posterior(z=DiagonalGaussian.from_parameters(parameters))

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return a(step) KL, the KL with free bits where they are asked for."""
        return self.annealing(step) * kl_z

    def schedule(self, step: int) -> dict[str, float]:
        """Return the KL's weight."""
        return {"weight_kl": self.annealing(step)}


class Multispace(System):
    """The joint space: z Gaussian and c categorical, each held to its own capacity."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size + sum(options.categories))
        self.z_parameters = _read_features(options, 2 * options.z_size)
        self.c_parameters = _read_features(options, sum(options.categories))
        self.capacity_z = Capacity(
            options.capacity_z_min, options.capacity_z_max, options.capacity_steps
        )
        self.capacity_c = Capacity(
            options.capacity_c_min,
            options.capacity_c_max,
            options.capacity_steps,
            cap=categorical_cap(options.categories),
        )

    def warnings(self) -> list[str]:
        """Say so where the categories cannot carry the capacity that is asked of them."""
        c = self.capacity_c
        if not c.capped:
            return []
        return [f"capacity_c_max {c.maximum:g} is above the {c.cap:.3f} nats that categories "
                f"{list(self.options.categories)} can carry; {c.cap:.3f} is used"]  # fmt: skip

    def posterior(self, features: Tensor) -> Posterior:
        """Return q(z, c | v) = q(z | v) q(c | v)."""
        standard = self.standardise(features)
        return Posterior(
            z=DiagonalGaussian.from_parameters(self.z_parameters(standard)),
            c=Categoricals.from_parameters(self.c_parameters(standard), self.options.categories),
        )

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return gamma_z |KL_z - C_z(step)| + gamma_c |KL_c - C_c(step)|."""
        return capacity_penalty(
            kl_z, self.capacity_z(step), self.options.gamma_z
        ) + capacity_penalty(kl_c, self.capacity_c(step), self.options.gamma_c)

    def schedule(self, step: int) -> dict[str, float]:
        """Return the targets and weights of both channels and the temperature."""
        return {
            "capacity_z": self.capacity_z(step),
            "capacity_c": self.capacity_c(step),
            "gamma_z": self.options.gamma_z,
            "gamma_c": self.options.gamma_c,
            "temperature": self.temperature(step),
        }


def _annealing(options: SystemOptions) -> Callable[[int], float]:
    """Return the weight of the KL as a function of the optimiser step."""
    kinds: dict[str, Callable[[int], float]] = {
        "logistic": LogisticAnnealing(options.annealing_midpoint, options.annealing_slope),
        "linear": linear_annealing(options.annealing_steps),
        "cyclical": CyclicalAnnealing(options.annealing_steps, options.annealing_cycles),
        "none": lambda _: 1.0,
    }
    return kinds[options.annealing]


def _read_features(options: SystemOptions, size: int) -> nn.Linear:
    """Return a linear map of standardised features whose outputs begin at a deviation of 0.6."""
    linear = nn.Linear(options.feature_size, size)
    nn.init.uniform_(linear.weight, -1, 1)
    nn.init.zeros_(linear.bias)
    return linear


SYSTEMS: dict[str, Callable[[SystemOptions], System]] = {
    "base": Base,
    "latent": Latent,
    "multispace": Multispace,
}


def build(options: SystemOptions) -> System:
    """Return a new system, its weights drawn from torch's generator."""
    return SYSTEMS[options.system](options)
