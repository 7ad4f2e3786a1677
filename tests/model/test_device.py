import pytest
import torch

from multispace.errors import ModelError
from multispace.model import device as module
from multispace.model.device import choose_device, choose_precision, cores

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.mark.parametrize(("available", "kind"), [(False, "cpu"), (True, "cuda")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, available, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert choose_device("auto").type == kind


def test_the_cpu_is_always_there():
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["tpu", "", "cuda:99", "meta", "hpu", "vulkan", "cpu:x"])
def test_a_device_that_cannot_compute_is_refused_in_one_line(name):
    with pytest.raises(
        ModelError, match=f"^--device {name}: not usable here .*; use cpu$"
    ) as error:
        choose_device(name)
    assert len(str(error.value)) < 250
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("able", "precision"),
    [
        ({"avx2": True, "amx_bf16": False, "avx512_bf16": False}, torch.float32),
        ({"avx2": True, "avx512_f": True}, torch.float32),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16),
    ],
)
def test_auto_is_bfloat16_only_where_the_processor_multiplies_it(monkeypatch, able, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert choose_precision("auto", CPU) == precision


def test_auto_is_float32_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", CPU) == torch.float32


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)]
)
def test_auto_on_a_gpu_follows_its_generation(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", CUDA) == precision


def test_auto_on_another_kind_of_device_is_float32():
    assert choose_precision("auto", torch.device("mps")) == torch.float32


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_named_precision_is_taken_as_it_is(name):
    assert choose_precision(name, CPU) == getattr(torch, name)


@pytest.mark.parametrize("name", ["float64", "half", "", "float"])
def test_an_unknown_precision_is_refused_with_those_there_are(name):
    message = f"^--precision {name}: use one of auto, float32, bfloat16, float16$"
    with pytest.raises(ModelError, match=message):
        choose_precision(name, CPU)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000\n", 8), ("250000 100000\n", 3), ("50000 100000", 1), ("9900000 100000", 8)],
)
def test_cores_are_those_of_the_process_within_its_quota(monkeypatch, tmp_path, quota, expected):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(module, "QUOTA", tmp_path / "cpu.max")
    assert cores() == 8
    (tmp_path / "cpu.max").write_text(quota)
    assert cores() == expected
