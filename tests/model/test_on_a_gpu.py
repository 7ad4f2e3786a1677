"""What runs on a GPU stays there: no tensor of the CPU, and no result that the CPU waits for.

The tests need no GPU. They run on the device ``meta``, whose tensors have shapes and no numbers.
An operation on tensors of two devices fails there as it does on a GPU, and so does every
operation that the CPU would have to wait for: ``item()``, a mask as an index, ``unique``.
"""

import pytest
import torch

from multispace.model.options import SystemOptions
from multispace.model.systems import SYSTEMS, build

META = torch.device("meta")
WORDS, FEATURES, BATCH_SIZES = 40, 12, (5, 5, 3, 1)


def make(system, **other):
    sizes = dict(words=WORDS, feature_size=FEATURES, embedding=8, hidden=8)
    with META:
        return build(SystemOptions(system=system, **sizes, **other))


def batch():
    features = torch.empty(BATCH_SIZES[0], FEATURES, device=META, dtype=torch.float16)
    inputs, targets = torch.empty(2, sum(BATCH_SIZES), device=META, dtype=torch.int64)
    return features, inputs, targets, BATCH_SIZES


OPTIONS = [
    {},
    dict(dropout=0.3, word_dropout=0.2, label_smoothing=0.1, cell="gru", layers=2),
    dict(tie_embeddings=True),
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_training_step_of_each_system_stays_on_the_gpu(system, options):
    model = make(system, **options)
    optimizer = torch.optim.Adam(model.parameters(), foreach=True, capturable=False)
    loss = model.loss(*batch(), step=3)
    loss.total.backward()
    assert {term.device for term in loss} == {META}
    assert all(p.grad is not None for p in model.parameters())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()


@pytest.mark.parametrize("system", ["latent", "joint-cvae"])
def test_optional_terms_of_the_loss_stay_on_the_gpu(system):
    used = dict(free_bits=0.1) if system == "latent" else dict(latent_dropout=0.2)
    loss = make(system, **used).loss(*batch(), step=3)
    assert loss.total.device == META


@torch.inference_mode()
@pytest.mark.parametrize("latents", ["mode", "sample"])
@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "base"])
def test_the_condition_of_each_system_stays_on_the_gpu(system, latents):
    assert make(system).eval().condition(batch()[0], latents).device == META
