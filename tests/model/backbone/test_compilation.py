import sys

import pytest
import torch
from torch import nn

from multispace.model.backbone import compilation as module
from multispace.model.backbone.compilation import LONG, compile_backbone, cpp_compiler, repays
from multispace.model.backbone.resnet import Backbone, Preparation

CPU = torch.device("cpu")


class Pool(nn.Module):
    def forward(self, batch):
        return torch.relu(batch).mean((2, 3))


def backbone(precision=torch.float32, device=CPU):
    prepare = Preparation(8, 8, "bilinear", True, (0.5,) * 3, (0.2,) * 3)
    return Backbone("pool", "none", "0", prepare, 3, Pool().eval(), device, precision)


def test_without_a_compiler_the_network_stays_and_a_line_says_so(monkeypatch):
    monkeypatch.setattr(module, "cpp_compiler", lambda: None)
    plain = backbone()
    assert compile_backbone(plain, 2) == (plain, "not compiled: no C++ compiler here; install g++")


@pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler")
def test_a_compilation_that_fails_leaves_the_network(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("one\ntwo")

    monkeypatch.setattr(torch, "compile", fails)
    plain, threads = backbone(), torch.get_num_threads()
    assert compile_backbone(plain, 2) == (plain, "not compiled: RuntimeError: one two")
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler")
def test_a_compiled_network_is_the_same_function_and_is_tried_at_once(monkeypatch):
    seen = []

    def compiles(network, options):
        def run(batch):
            seen.append((tuple(batch.shape), torch.get_num_threads(), options))
            return network(batch)

        return run

    monkeypatch.setattr(torch, "compile", compiles)
    plain = backbone()
    compiled, line = compile_backbone(plain, 2)
    assert (compiled.compiled, plain.compiled) == ("inductor", "")
    assert line == "kernels compiled by inductor"
    assert seen == [((2, 3, 8, 8), 1, {"freezing": True})]
    pixels = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    assert torch.equal(compiled.of_pixels(pixels), plain.of_pixels(pixels))


def test_a_named_compiler_that_does_not_work_is_not_taken(monkeypatch):
    cpp_compiler.cache_clear()
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setenv("PATH", "/nowhere")
    assert cpp_compiler() is None
    cpp_compiler.cache_clear()


@pytest.mark.parametrize(
    ("precision", "native", "images", "expected"),
    [
        (torch.bfloat16, True, LONG, True),
        (torch.bfloat16, True, LONG - 1, False),
        (torch.bfloat16, False, LONG, False),
        (torch.float32, True, LONG, False),
    ],
)
def test_only_long_jobs_in_native_bfloat16_repay(monkeypatch, precision, native, images, expected):
    monkeypatch.setattr(module, "native_bfloat16", lambda device: native)
    assert repays(backbone(precision), images) == expected
