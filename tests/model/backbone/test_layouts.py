import re
from argparse import Namespace

import pytest
import torch
from safetensors.torch import save_file

from multispace.errors import WeightsError
from multispace.model.backbone.resnet import load_backbone
from multispace.model.backbone.weights import random_state, state_sha256

CPU = torch.device("cpu")
HEAD = {"fc.0.weight": torch.ones(3, 512), "fc.0.bias": torch.ones(3)}


@pytest.fixture(scope="module")
def resnet():
    """The tensors of a ResNet-18 without its classifier."""
    state = random_state("resnet18", "random:3")
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def other(state):
    """Return tensors of the same shapes and other values."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def moco(state):
    return {"epoch": 200, "arch": "resnet18", "optimizer": {"state": {}, "param_groups": []},
            "state_dict": {**under("module.encoder_k.", other(state)),
                           **under("module.encoder_q.", {**state, **HEAD}),
                           "module.queue": torch.ones(128, 8),
                           "module.queue_ptr": torch.zeros(1)}}  # fmt: skip


def moco3(state):
    return {"state_dict": {**under("module.momentum_encoder.", other(state)),
                           **under("module.base_encoder.", {**state, **HEAD}),
                           "module.predictor.0.weight": torch.ones(3, 3)}}  # fmt: skip


def dino(state):
    head = {"head.mlp.0.weight": torch.ones(3, 512)}
    return {"student": under("module.", {**under("backbone.", other(state)), **head}),
            "teacher": {**under("backbone.", state), **head},
            "args": Namespace(arch="resnet18"), "epoch": 800}  # fmt: skip


def dino_student(state):
    return {"student": dino(state)["teacher"]}


def several(state):
    return {"model": {**under("module.backbone.", state), "module.projector.0.weight": HEAD}}


def flat(state):
    return {**under("backbone.", state), "projector.0.weight": torch.ones(3, 512)}


def transformer(_):
    return {"cls_token": torch.ones(1, 1, 8), "blocks.0.attn.qkv.weight": torch.ones(24, 8)}


def load(path, architecture="resnet18"):
    return load_backbone(architecture, str(path), device=CPU)


@pytest.mark.parametrize(
    ("layout", "note"),
    [
        (moco, "is a MoCo checkpoint; its query encoder was loaded"),
        (moco3, "is a MoCo v3 checkpoint; its base encoder was loaded"),
        (dino, "is a DINO checkpoint; the backbone of its teacher was loaded"),
        (dino_student, "is a DINO checkpoint; the backbone of its student was loaded"),
        (flat, "is a checkpoint of several networks; its backbone was loaded"),
    ],
)
def test_the_image_network_of_a_checkpoint_is_loaded(layout, note, resnet, tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save(layout(resnet), path)
    backbone = load(path)
    assert backbone.note == f"{path} {note}"
    assert backbone.weights == str(path)
    assert backbone.weights_sha256 == state_sha256(resnet)


def test_a_checkpoint_may_be_a_safetensors_file(resnet, tmp_path):
    save_file(moco(resnet)["state_dict"], tmp_path / "moco.safetensors")
    assert load(tmp_path / "moco.safetensors").weights_sha256 == state_sha256(resnet)


def test_a_plain_state_dict_has_no_note(resnet, tmp_path):
    path = tmp_path / "plain.pth"
    for content in (resnet, {"model": under("module.", resnet)}):
        torch.save(content, path)
        assert load(path).note == ""
        assert load(path).weights_sha256 == state_sha256(resnet)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (
            moco,
            "a MoCo checkpoint; its query encoder does not fit: layer1.0.conv1.weight has shape",
        ),
        (
            dino,
            "a DINO checkpoint; the backbone of its teacher does not fit: layer1.0.conv1.weight",
        ),
    ],
)
def test_an_image_network_that_does_not_fit_is_refused_with_what_it_is(
    layout, message, resnet, tmp_path
):
    path = tmp_path / "checkpoint.pth"
    torch.save(layout(resnet), path)
    with pytest.raises(WeightsError, match=f"^{path}: {re.escape(message)}") as caught:
        load(path, "resnet50")
    assert str(caught.value).endswith(
        "; give the --backbone that it was trained for; only torchvision's ResNet layout fits"
    )


@pytest.mark.parametrize(
    ("layout", "kind"),
    [
        (transformer, "a checkpoint"),
        (lambda state: dino(transformer(state)), "a DINO checkpoint"),
        (lambda state: moco3(transformer(state)), "a MoCo v3 checkpoint"),
    ],
)
def test_a_vision_transformer_is_refused_with_what_it_is(layout, kind, resnet, tmp_path):
    path = tmp_path / "vit.pth"
    torch.save(layout(resnet), path)
    with pytest.raises(WeightsError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}: {kind} of a vision transformer, not of a ResNet; give the weights of a ResNet, "
        "or extract features with the transformer's own code and run `multispace cache import`"
    )


class Unknown:
    pass


@pytest.mark.parametrize(
    "content",
    [
        several,
        lambda s: {**moco(s), "extra": Unknown()},
        lambda s: {**dino(s), "args": Namespace(x=Unknown())},
    ],
)
def test_other_content_is_refused(content, resnet, tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save(content(resnet), path)
    with pytest.raises(WeightsError, match="not (a plain state dict|readable as plain weights)"):
        load(path)
