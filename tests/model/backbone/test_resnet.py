import importlib.util
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from multispace.errors import WeightsError
from multispace.model.backbone import torchvision_compat as vision
from multispace.model.backbone.resnet import ARCHITECTURES, Backbone, Together, load_backbone
from multispace.model.backbone.torchvision_compat import models
from multispace.model.backbone.weights import state_sha256

CPU = torch.device("cpu")
SIDE = 64

State = dict[str, Tensor]


def new_state(architecture: str) -> State:
    """Return weights as training might leave them: nothing is 0 or 1 that could hide a fault."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = models.get_model(architecture, weights=None)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.3, 1.2)
                module.bias.data.normal_(std=0.2)
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.3, 3)
                module.num_batches_tracked.fill_(1000)
    return network.state_dict()


@pytest.fixture(scope="module")
def small() -> State:
    return new_state("resnet18")


@pytest.fixture(scope="module")
def large() -> State:
    return new_state("resnet50")


@pytest.fixture(scope="module")
def small_file(small, tmp_path_factory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(small, path)
    yield path
    path.unlink()  # pytest keeps its folders for three runs


@pytest.fixture(scope="module")
def large_file(large, tmp_path_factory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(large, path)
    yield path
    path.unlink()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def offline(monkeypatch, tmp_path) -> Path:
    """Cut the network off and return the folder where torchvision keeps what it fetched."""

    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def load(weights: str | Path, architecture: str = "resnet18", **options: object) -> Backbone:
    return load_backbone(architecture, str(weights), device=CPU, **options)


def refusal(weights: str | Path, architecture: str = "resnet18", **options: object) -> str:
    """Return the one line that refuses the weights."""
    with pytest.raises(WeightsError) as error:
        load(weights, architecture, **options)
    line = str(error.value)
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 400
    return line


class Module(nn.Module):
    pass


def plain(architecture: str, state: State) -> nn.Module:
    """Return torchvision's own network without the classifier."""
    network = models.get_model(architecture, weights=None)
    network.load_state_dict(state)
    network.fc = nn.Identity()
    return network.eval()


# The function


@pytest.mark.parametrize(("architecture", "width"), [("resnet18", 512), ("resnet50", 2048)])
def test_folded_batch_norms_leave_the_function(architecture, width, images, request):
    small = architecture == "resnet18"
    state = request.getfixturevalue("small" if small else "large")
    backbone = load(request.getfixturevalue("small_file" if small else "large_file"), architecture)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.network.modules())
    with torch.inference_mode():
        expected = plain(architecture, state)(images)
    features = backbone(images)
    assert features.dtype == torch.float32
    assert features.shape == (2, width)
    assert backbone.dimension == width
    assert expected.abs().max() > 0.01
    assert (features - expected).norm() / expected.norm() < 1e-4


def test_bfloat16_is_near_and_comes_back_as_float32(small_file, images):
    exact = load(small_file)(images)
    backbone = load(small_file, precision=torch.bfloat16)
    features = backbone(images)
    assert features.dtype == torch.float32
    assert 1e-6 < (features - exact).norm() / exact.norm() < 0.05
    assert backbone.weights_sha256 == load(small_file).weights_sha256  # of the file, not the cast


def test_a_backbone_is_frozen(small_file):
    network = load(small_file).network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_pixels_are_prepared_as_an_image_is(small_file):
    backbone = load(small_file, resize=SIDE, crop=SIDE)
    made = [image(90, 70), image(64, 200)]
    pixels = torch.stack([torch.from_numpy(backbone.prepare.cut(one)) for one in made])
    assert pixels.shape == (2, SIDE, SIDE, 3)
    expected = backbone(torch.stack([backbone.prepare(one) for one in made]))
    assert torch.equal(backbone.of_pixels(pixels), expected)


@pytest.mark.parametrize(("crop", "side"), [(64, 2), (65, 3), (33, 2)])
def test_a_grid_is_the_last_map_row_by_row(crop, side, small_file):
    average, grid = (load(small_file, crop=crop, pool=pool) for pool in ("average", "grid"))
    assert average.pooling == "global average"
    assert grid.pooling == f"grid {side} x {side}, row by row"
    assert grid.dimension == side * side * 512
    batch = torch.randn(2, 3, crop, crop, generator=torch.Generator().manual_seed(2))
    places = grid(batch).reshape(2, side, side, 512)
    torch.testing.assert_close(places.mean((1, 2)), average(batch), rtol=1e-4, atol=1e-5)
    with torch.inference_mode():  # where each place lies, by the network without its pooling
        network = load(small_file, crop=crop).network
        network.avgpool = nn.Identity()
        last = network(batch).reshape(2, 512, side, side)
    torch.testing.assert_close(places[:, 0, 1], last[:, :, 0, 1], rtol=1e-4, atol=1e-5)


def test_with_flip_an_image_and_its_mirror_image_are_one(small_file, images):
    plain, both = load(small_file), load(small_file, flip=True)
    mirrored = images.flip(3)
    torch.testing.assert_close(both(images), both(mirrored), rtol=1e-4, atol=1e-5)
    mean = (plain(images) + plain(mirrored)) / 2
    torch.testing.assert_close(both(images), mean, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both(images), plain(images), rtol=1e-2)


def test_an_unknown_pool_is_refused(small_file):
    assert refusal(small_file, pool="max") == "--pool max: use one of average, grid"


def test_together_their_features_lie_side_by_side(small_file):
    one, two = load(small_file, resize=SIDE, crop=SIDE), load("random:1", resize=SIDE, crop=SIDE)
    pixels = torch.randint(0, 256, (2, SIDE, SIDE, 3), dtype=torch.uint8)
    features = Together((one, two)).of_pixels(pixels)
    assert torch.equal(features[:, :512], one.of_pixels(pixels))
    assert torch.equal(features[:, 512:], two.of_pixels(pixels))
    with pytest.raises(WeightsError, match="prepared differently; extract one after the other"):
        Together((one, load(small_file, resize=SIDE, crop=48)))


# Where weights come from


def test_the_digest_is_of_the_tensors_whatever_the_file(small, small_file, tmp_path):
    bare = {name: tensor for name, tensor in small.items() if not name.startswith("fc.")}
    digest = state_sha256(bare)
    backbone = load(small_file)
    assert backbone.weights == str(small_file)
    assert backbone.weights_sha256 == digest

    path = tmp_path / "w.safetensors"
    for prefix in ("", "module.pre."):
        save_file({f"{prefix}{n}": t for n, t in small.items()}, path)
        assert load(path).weights_sha256 == digest
    path.unlink()

    path = tmp_path / "w.pt"
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in bare.items()}}, path)
    assert load(path).weights_sha256 == digest
    old = {n: t for n, t in bare.items() if not n.endswith("num_batches_tracked")}
    torch.save(old, path, _use_new_zipfile_serialization=False)
    assert load(path).weights_sha256 == digest
    path.unlink()


def test_the_digest_tells_names_types_shapes_and_values_apart():
    state = {"a": torch.zeros(2, 3), "b": torch.ones(4)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(4)},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": torch.ones(4)},
        {"a": torch.zeros(2, 3), "c": torch.ones(4)},
        {"a": torch.zeros(2, 3), "b": torch.ones(4).nextafter(torch.tensor(2.0))},
    ]
    assert len({state_sha256(s) for s in (state, *others)}) == 5
    again = {"b": torch.ones(8)[::2], "a": torch.zeros(3, 2).T, "n.num_batches_tracked": CPU}
    again["n.num_batches_tracked"] = torch.tensor(7)
    assert state_sha256(again) == state_sha256(state)


def test_random_weights_are_a_function_of_the_seed(images):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = load("random:3"), load("random:3"), load("random:4")
    assert torch.equal(torch.get_rng_state(), before)
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert torch.equal(first(images), again(images))
    assert load("random").weights_sha256 == load("random:0").weights_sha256


def test_loading_a_file_leaves_the_generator(small_file):
    before = torch.get_rng_state()
    load(small_file)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_installed_package_may_hold_the_weights(images):
    if importlib.util.find_spec("imgsim") is None:
        pytest.skip("the package imgsim is not installed")
    backbone = load("package:imgsim/model.pth", "resnet50")
    assert backbone.weights == "package:imgsim/model.pth"
    assert backbone.dimension == 2048
    features = backbone(images)
    assert torch.isfinite(features).all()
    assert (features >= 0).all()  # a mean of rectified values
    assert features[0].std() > 0


def test_weights_inside_a_package_are_found_without_importing_it(small_file, tmp_path, monkeypatch):
    package = tmp_path / "heldweights"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs a screen')\n")
    os.symlink(small_file, package / "inner" / "w.pth")
    monkeypatch.syspath_prepend(tmp_path)
    assert load("package:heldweights/inner/w.pth").weights_sha256 == load(small_file).weights_sha256
    assert "heldweights" not in sys.modules
    assert "no such file" in refusal("package:heldweights/w.pth")
    assert "no such file" in refusal("package:heldweights")


@pytest.mark.parametrize("name", ["imagenet", "IMAGENET1K_V1"])
def test_imagenet_weights_that_were_fetched_before_need_no_network(name, small_file, offline):
    os.symlink(small_file, offline / "resnet18-f37072fd.pth")
    backbone = load(name)
    assert backbone.weights == "IMAGENET1K_V1"
    assert backbone.weights_sha256 == load(small_file).weights_sha256


def test_imagenet_weights_that_cannot_be_fetched_are_an_error_with_the_hint(offline):
    line = refusal("imagenet")
    assert line.startswith("ResNet18_Weights.IMAGENET1K_V1: cannot be downloaded from https://")
    assert "Name or service not known" in line
    assert line.endswith("download the file elsewhere and pass --weights FILE")
    assert "resnet50-11ad3fa6.pth" in refusal("IMAGENET1K_V2", "resnet50")


@pytest.mark.parametrize("pickled", [False, True])
def test_a_download_that_is_not_plain_weights_is_an_error_with_the_hint(
    pickled, small_file, offline
):
    path = offline / "resnet18-f37072fd.pth"
    if pickled:
        torch.save(Module(), path)
    else:
        path.write_bytes(small_file.read_bytes()[:9999])
    line = refusal("imagenet")
    assert "cannot be downloaded" in line
    assert line.endswith("download the file elsewhere and pass --weights FILE")


# Weights that do not fit


def test_an_unknown_architecture_is_refused_with_those_there_are():
    line = refusal("random", "resnet19")
    assert line == f"--backbone resnet19: use one of {', '.join(ARCHITECTURES)}"


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("random:x", "random:x: the seed must be a whole number"),
        ("random:-1", "random:-1: the seed must be a whole number"),
        (f"random:{2**64}", "the seed must be a whole number"),
        ("IMAGENET1K_V9", "IMAGENET1K_V9: no such file, and not a name that torchvision knows"),
        ("no/such/file.pth", "no/such/file.pth: no such file"),
        ("", "no such file"),
        (
            "package:no_such_package/m.pth",
            "package 'no_such_package' is not installed; run `pip install",
        ),
        ("package:os/m.pth", "package 'os' is not installed"),
        ("package:../etc/m.pth", "package '..' is not installed"),
    ],
)
def test_weights_that_are_nowhere_are_named_with_the_hint(weights, words):
    line = refusal(weights)
    assert f"--weights {weights}:" in line
    assert words in line


def cut(path: Path, state: State, legacy: bool) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    os.truncate(path, path.stat().st_size * 2 // 3)


SOME = {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.zeros(64)}


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("whole.pth", lambda p: torch.save(Module(), p), "not readable as plain weights"),
        (
            "text.pth",
            lambda p: p.write_text("<html>not found</html>\n" * 9),
            "not readable as plain weights",
        ),
        (
            "text.safetensors",
            lambda p: p.write_text("not found\n" * 9),
            "not readable as plain weights",
        ),
        ("empty.pth", lambda p: p.write_bytes(b""), "not readable as plain weights"),
        ("cut.pth", lambda p: cut(p, SOME, legacy=False), "not readable as plain weights"),
        ("cut-old.pth", lambda p: cut(p, SOME, legacy=True), "not readable as plain weights"),
        ("list.pth", lambda p: torch.save([torch.zeros(2)], p), "not a plain state dict"),
        ("numbers.pth", lambda p: torch.save({"lr": 0.1}, p), "not a plain state dict"),
        ("unnamed.pth", lambda p: torch.save({1: torch.zeros(2)}, p), "not a plain state dict"),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused(name, write, words, tmp_path):
    write(tmp_path / name)
    line = refusal(tmp_path / name)
    assert line.startswith(f"{tmp_path / name}: {words}")
    assert line.endswith("save only `model.state_dict()`")


def without(name: str) -> Callable[[State], State]:
    return lambda state: {n: t for n, t in state.items() if n != name}


def spoilt(name: str, value: float) -> Callable[[State], State]:
    def change(state: State) -> State:
        tensor = state[name].clone()
        tensor.view(-1)[5] = value
        return {**state, name: tensor}

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("bn1.running_var"), "bn1.running_var is missing; is it another architecture?"),
        (without("conv1.weight"), "conv1.weight is missing"),
        (
            lambda s: {**s, "conv1.weight": torch.zeros(64, 1, 7, 7)},
            "conv1.weight has shape (64, 1, 7, 7), expected (64, 3, 7, 7); is it another",
        ),
        (spoilt("bn1.bias", math.nan), "bn1.bias is not finite: the file is damaged"),
        (spoilt("layer1.0.conv1.weight", math.inf), "layer1.0.conv1.weight is not finite"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_tensor(change, words, small, tmp_path):
    path = tmp_path / "w.safetensors"
    start = dict(list(small.items())[:20])  # the first fault is reported, later ones wait
    save_file(change(start), path)
    assert refusal(path).startswith(f"{path}: {words}")


def test_a_tensor_too_many_is_refused(small, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({**small, "extra": torch.zeros(2)}, path)
    assert refusal(path) == f"{path}: extra is unexpected; is it another architecture?"
    path.unlink()


@pytest.mark.parametrize(
    ("architecture", "file", "words"),
    [
        ("resnet50", "small_file", "layer1.0.conv1.weight has shape (64, 64, 3, 3)"),
        ("resnet18", "large_file", "layer1.0.conv1.weight has shape (64, 64, 1, 1)"),
        ("resnet34", "small_file", "layer1.2.conv1.weight is missing"),
    ],
)
def test_the_weights_of_another_architecture_are_refused(architecture, file, words, request):
    line = refusal(request.getfixturevalue(file), architecture)
    assert words in line
    assert line.endswith("is it another architecture?")


# The transform


def image(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(300, 280), (90, 333), (256, 256)])
def test_preparation_is_torchvisions_own(size):
    prepare = load("random").prepare
    preset = models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    assert torch.equal(prepare(image(*size)), preset(image(*size)))
    assert (prepare.resize, prepare.crop) == (256, 224)
    assert (prepare.interpolation, prepare.antialias) == ("bilinear", True)
    assert prepare.mean == (0.485, 0.456, 0.406)
    assert prepare.std == (0.229, 0.224, 0.225)


def test_preparation_is_resize_middle_scale():
    prepare = load("random", resize=SIDE, crop=48).prepare
    resized = image(2 * SIDE, 3 * SIDE).resize((SIDE, 96), Image.Resampling.BILINEAR)
    middle = np.asarray(resized.crop((8, 24, 56, 72)), np.float32) / 255
    expected = (middle - np.float32(prepare.mean)) / np.float32(prepare.std)
    prepared = prepare(image(2 * SIDE, 3 * SIDE))
    assert prepared.dtype == torch.float32
    torch.testing.assert_close(prepared, torch.from_numpy(expected).permute(2, 0, 1))


def test_weights_bring_their_own_transform(large_file, offline):
    os.symlink(large_file, offline / "resnet50-11ad3fa6.pth")
    for name in ("IMAGENET1K_V2", "DEFAULT"):
        backbone = load(name, "resnet50")
        assert backbone.weights == "IMAGENET1K_V2"
        assert (backbone.prepare.resize, backbone.prepare.crop) == (232, 224)


@pytest.mark.parametrize(
    ("resize", "crop", "sizes"),
    [(None, None, (256, 224)), (100, None, (100, 100)), (512, None, (512, 224)), (64, 1, (64, 1))],
)
def test_sizes_may_be_chosen(resize, crop, sizes):
    prepare = load("random", resize=resize, crop=crop).prepare
    assert (prepare.resize, prepare.crop) == sizes
    assert prepare(image(40, 30)).shape == (3, sizes[1], sizes[1])


@pytest.mark.parametrize(
    ("resize", "crop", "numbers"),
    [(64, 65, "--crop 65 and --resize 64"), (None, 300, "--crop 300 and --resize 256"),
     (64, 0, "--crop 0 and"), (64, -8, "--crop -8 and"), (0, None, "--resize 0")],
)  # fmt: skip
def test_sizes_that_cannot_be_are_refused(resize, crop, numbers):
    assert numbers in refusal("random", resize=resize, crop=crop)


# torchvision beside any torch


def test_operators_are_declared_only_where_they_are_missing(monkeypatch):
    declared: list[str] = []
    monkeypatch.setattr(torch.library, "define", lambda name, schema: declared.append(name))
    vision._declare_missing_operators()
    assert declared == []  # the import of torchvision has found them
    monkeypatch.setattr(torch.ops, "torchvision", SimpleNamespace(nms=None))
    vision._declare_missing_operators()
    assert declared == ["torchvision::qnms"]
