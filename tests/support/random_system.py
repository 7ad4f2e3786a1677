"""A system with random weights, which captions differ from each other."""

import torch
from torch import Tensor

from multispace.data.captions.vocabulary import Vocabulary, build_vocabulary
from multispace.model.options import SystemOptions
from multispace.model.systems import build
from multispace.model.systems.captioner import Captioner
from support.options import used_by


def random_system(system: str, **options) -> tuple[Captioner, Vocabulary, Tensor]:
    """Return a system with random weights, its vocabulary and the features of five images."""
    torch.manual_seed(0)
    vocabulary = build_vocabulary(["a b c d e f g h"], "whitespace", 1, "0" * 64)
    sizes = {"embedding": 6, "hidden": 8, "z_size": 3, "categories": (4,), **options}
    known = used_by(system, words=len(vocabulary), **sizes)
    model = build(SystemOptions(system=system, feature_size=5, **known)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model, vocabulary, 3 * torch.randn(5, 5)
