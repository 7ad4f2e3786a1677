"""The optimizer, its learning rate over time, and the moving average of the weights."""

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from multispace.errors import OptionError
from multispace.model.latent.schedules import LearningRate
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.command_options.train_options import TrainOptions


def make_optimizer(options: TrainOptions, system: Captioner) -> torch.optim.Optimizer:
    """Return Adam, or AdamW with weight decay.

    The decay is torch's own: each step subtracts learning rate x decay x parameter from every
    parameter, biases and embeddings included, apart from the gradient (Loshchilov & Hutter 2019).
    """
    kind = torch.optim.AdamW if options.weight_decay else torch.optim.Adam
    return kind(
        system.parameters(),
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        fused=True,
    )


def make_learning_rate(options: TrainOptions, steps: int) -> LearningRate:
    """Return the learning rate of each of a run's ``steps``.

    :param steps: of the whole training
    :raises OptionError: the warm-up leaves no step to decay in.
    """
    if options.lr_schedule != "constant" and options.warmup_steps >= steps:
        raise OptionError(
            f"the run has {steps} steps",
            where=f"--warmup-steps {options.warmup_steps} and --lr-schedule {options.lr_schedule}",
            hint="choose fewer warm-up steps",
        )
    return LearningRate(
        options.learning_rate, steps, options.lr_schedule, options.warmup_steps, options.lr_min
    )


def make_average(options: TrainOptions, system: Captioner) -> AveragedModel | None:
    """Return the exponential moving average of the weights; None without ``--ema``.

    average <- ema * average + (1 - ema) * weights after every step; it begins as the weights
    after the first step (Polyak & Juditsky 1992; exponential as in Kingma & Ba 2015, section 7.2).
    """
    if not options.ema:
        return None
    return AveragedModel(system, multi_avg_fn=get_ema_multi_avg_fn(options.ema))
