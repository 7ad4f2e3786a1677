import subprocess
import sys

import pytest

from multispace.model.options import SystemOptions
from multispace.model.systems import SYSTEMS, build
from multispace.model.systems.shapes import tensor_shapes


@pytest.mark.parametrize("system", SYSTEMS)
def test_names_shapes_and_types_are_those_of_the_system(system):
    options = SystemOptions(system=system, words=50, hidden=8, embedding=6, feature_size=5)
    found = tensor_shapes(options)
    assert {tensor.device.type for tensor in found.values()} == {"meta"}
    described = {name: (tensor.shape, tensor.dtype) for name, tensor in found.items()}
    real = build(options).state_dict()
    assert described == {name: (tensor.shape, tensor.dtype) for name, tensor in real.items()}


def test_the_compiler_of_torch_is_not_imported():
    code = """
import sys
from multispace.model.options import SystemOptions
from multispace.model.systems import SYSTEMS
from multispace.model.systems.shapes import tensor_shapes
for system in SYSTEMS.keys() - {"ag-cvae"}:  # which computes with what it draws
    tensor_shapes(SystemOptions(system=system, words=50, hidden=8, embedding=6, feature_size=5))
    assert "torch._dynamo" not in sys.modules, system
"""
    subprocess.run([sys.executable, "-c", code], check=True)
