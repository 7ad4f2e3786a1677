"""One optimizer step, and the check of its loss.

All randomness of a step is a function of (seed, step).

On a GPU the CPU does not wait for a step. It checks the loss of a step after it has started the
next one, and that of every step before anything is logged, validated or written
(:func:`finish_steps`).
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from multispace.errors import NotFiniteError
from multispace.model.latent.losses import Loss
from multispace.pipeline.runs.checkpoint import has_checkpoint
from multispace.pipeline.runs.run_folder import LAST
from multispace.pipeline.training.context import StepNumbers, Training

MIN_SCALE = 2.0**-14  # the smallest normal float16: a smaller scale loses a gradient of 1
AHEAD = 1  # steps that a GPU may have in hand when the CPU starts the next one


def train_step(training: Training, captions: np.ndarray) -> None:
    """Make one optimizer step.

    :param captions: numbers of the captions of the whole batch, longest first
    """
    state, position, scaler = training.state, training.state.position, training.state.scaler
    seed_step(training.options.seed, position.step)
    own, partition = training.group.partition(captions)
    batch = training.pairs.batch(own).to(training.device)
    state.model.train()
    mixed = training.precision != torch.float32
    with torch.autocast(training.device.type, training.precision, enabled=mixed):
        loss = training.loss_function(
            batch.features, batch.inputs, batch.targets, batch.batch_sizes, position.step, partition
        )
    state.optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss.total).backward()
    scaler.unscale_(state.optimizer)
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), training.options.clip)
    step = position.step
    position.step += 1
    position.batch += 1
    for group in state.optimizer.param_groups:
        group["lr"] = training.learning_rate(position.step)
    scaler.step(state.optimizer)  # with float16, skips the step if gradients overflow
    scaler.update()
    if state.average is not None:
        state.average.update_parameters(state.model)
    tokens = int(training.pairs.lengths[captions].sum())
    training.unread.append(_send(step, torch.stack((*loss, norm)), len(captions), tokens))
    finish_steps(training, ahead=steps_ahead(training.device))


def steps_ahead(device: torch.device) -> int:
    """Return how many steps may be started whose losses are not checked."""
    return AHEAD if device.type == "cuda" else 0


def finish_steps(training: Training, ahead: int = 0) -> None:
    """Wait for the steps that were started, check their losses, and count them.

    :param ahead: how many of the last steps to leave for later
    :raises NotFiniteError: a loss is not finite, or gradients overflow at any scale.
    """
    while len(training.unread) > ahead:
        numbers = training.unread.popleft()
        if numbers.arrived is not None:
            numbers.arrived.synchronize()
        *loss, norm = numbers.terms.tolist()
        _check_loss(training, dict(zip(Loss._fields, loss, strict=True)), numbers.step)
        training.state.meter.count(loss, norm, numbers.captions, numbers.tokens)


def _send(step: int, terms: Tensor, captions: int, tokens: int) -> StepNumbers:
    """Start to copy the numbers of a step to the CPU, without waiting for them."""
    copy, arrived = terms.detach().to("cpu", non_blocking=terms.is_cuda), None
    if terms.is_cuda:
        arrived = torch.cuda.Event()
        arrived.record()
    return StepNumbers(step, copy, arrived, captions, tokens)


def seed_step(seed: int, step: int) -> None:
    """Make the random draws of a step (latents, dropout) a function of seed and step alone."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]))


def _check_loss(training: Training, loss: dict[str, float], step: int) -> None:
    """Stop at a loss that is not finite, or gradients that overflow at any scale."""
    scaler = training.state.scaler
    if not math.isfinite(loss["total"]):
        names = ("reconstruction", "kl_z", "kl_c", "total")
        name = next(name for name in names if not math.isfinite(loss[name]))
        raise not_finite(training, f"{name} is {loss[name]}", step)
    if scaler.is_enabled() and (scale := scaler.get_scale()) < MIN_SCALE:
        fault = f"gradients overflow float16 even at a loss scale of {scale:g}"
        raise not_finite(training, fault, step)


def not_finite(training: Training, fault: str, step: int) -> NotFiniteError:
    """Return the error of a number that is not finite.

    :param step: optimizer steps that were done before it
    """
    run = training.options.run
    last = run / LAST
    kept = f"; the last good checkpoint is {last}" if has_checkpoint(last) else ""
    return NotFiniteError(
        f"{fault} at step {step}{kept}",
        where=run,
        hint="try a lower --learning-rate or --clip",
    )
