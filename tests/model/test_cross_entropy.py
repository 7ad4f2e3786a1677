import math

import pytest
import torch
from torch.nn import functional as F

from multispace.model import cross_entropy
from multispace.model.cross_entropy import linear_cross_entropy

N, SIZE, WORDS = 150, 6, 93


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    """Sizes that do not divide the problem, so that every seam is in it."""
    monkeypatch.setattr(cross_entropy, "ROWS", 16)
    monkeypatch.setattr(cross_entropy, "COLUMNS", 40)


def parts(count=N):
    torch.manual_seed(0)
    shapes = ((count, SIZE), (WORDS, SIZE), (WORDS,))
    tensors = [torch.randn(shape).requires_grad_() for shape in shapes]
    return tensors, torch.randint(0, WORDS, (count,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [1, 16, N])
def test_it_is_the_cross_entropy_of_the_linear_layer(smoothing, count):
    ours, targets = parts(count)
    theirs, _ = parts(count)
    entropy, nll = linear_cross_entropy(*ours, targets, smoothing)
    logits = F.linear(*theirs)
    expected = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(entropy, expected)
    torch.testing.assert_close(nll, F.cross_entropy(logits, targets, reduction="sum"))
    (0.3 * entropy).backward()
    (0.3 * expected).backward()
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_uniform_predictions_cost_log_words_a_token():
    targets = torch.arange(12)
    entropy, nll = linear_cross_entropy(
        torch.zeros(12, 2), torch.ones(50, 2), torch.ones(50), targets
    )
    assert entropy.item() == nll.item() == pytest.approx(12 * math.log(50), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_it_stays_near(dtype):
    exact, targets = parts()
    short, _ = parts()
    with torch.autocast("cpu", dtype):
        entropy, nll = linear_cross_entropy(*short, targets)
    assert entropy.dtype == nll.dtype == torch.float32
    expected, _ = linear_cross_entropy(*exact, targets)
    torch.testing.assert_close(entropy, expected, rtol=1e-2, atol=0)
    assert entropy != expected
    entropy.backward()
    expected.backward()
    for own, other in zip(short, exact, strict=True):
        assert own.grad.dtype == torch.float32
        torch.testing.assert_close(own.grad, other.grad, rtol=0.05, atol=0.05)


def test_without_gradients_none_are_made(monkeypatch):
    tensors, targets = parts()
    expected, _ = linear_cross_entropy(*tensors, targets)
    monkeypatch.setattr(torch, "mm", lambda *a, **k: pytest.fail("a gradient's product"))
    with torch.no_grad():
        entropy, _ = linear_cross_entropy(*tensors, targets)
    torch.testing.assert_close(entropy, expected.detach())


def test_no_tensor_is_as_large_as_all_logits():
    tensors, targets = parts(1600)
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                sizes.append(made.numel())
            return made

    with Watch():
        linear_cross_entropy(*tensors, targets)
    assert 16 * WORDS <= max(sizes) < 1600 * WORDS / 10
