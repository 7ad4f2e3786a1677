"""What runs on a GPU stays there: no tensor of the CPU, and no result that the CPU waits for.

The tests need no GPU. They run on the device ``meta``, whose tensors have shapes and no numbers.
Every operation fails there that the CPU would have to wait for: ``item()``, a mask as an index,
``unique``. Operations on tensors of two devices do not all fail there; :class:`OneDevice` refuses
them.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from multispace.model.options import SystemOptions
from multispace.model.systems import SYSTEMS, build

META = torch.device("meta")
WORDS, FEATURES, BATCH_SIZES = 40, 12, (5, 5, 3, 1)


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices, and copies between them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [
            leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)
        ]
        devices = sorted({tensor.device.type for tensor in tensors})
        assert len(devices) <= 1, f"{func} of {devices}"
        return result


@pytest.mark.parametrize(
    "work",
    [
        lambda ours: ours @ torch.zeros(5, 5),
        lambda ours: ours.index_select(0, torch.zeros(3, dtype=torch.int64)),
        lambda ours: torch.zeros(5, 5).to(META),
        lambda ours: ours + torch.zeros(()),
    ],
)
def test_a_tensor_of_the_cpu_is_found(work):
    with pytest.raises(AssertionError, match="of .*cpu"), OneDevice():
        work(torch.empty(5, 5, device=META))


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
    tokens = batch()
    with OneDevice():
        loss = model.loss(*tokens, step=3)
        loss.total.backward()
    assert {term.device for term in loss} == {META}
    assert all(p.grad is not None for p in model.parameters())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()


@pytest.mark.parametrize("system", ["latent", "joint-cvae"])
def test_optional_terms_of_the_loss_stay_on_the_gpu(system):
    used = dict(free_bits=0.1) if system == "latent" else dict(latent_dropout=0.2)
    model, tokens = make(system, **used), batch()
    with OneDevice():
        loss = model.loss(*tokens, step=3)
    assert loss.total.device == META


@torch.inference_mode()
@pytest.mark.parametrize("latents", ["mode", "sample"])
@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "base"])
def test_the_condition_of_each_system_stays_on_the_gpu(system, latents):
    model, features = make(system).eval(), batch()[0]
    with OneDevice():
        assert model.condition(features, latents).device == META
