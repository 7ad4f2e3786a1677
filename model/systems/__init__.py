"""The registry of the systems. Each defines the posterior of its latents and their cost."""

from collections.abc import Callable

from multispace.model.options import SystemOptions
from multispace.model.systems.ag_cvae import AGCVAE
from multispace.model.systems.base import Base
from multispace.model.systems.beta_cvae import BetaCVAE
from multispace.model.systems.captioner import Captioner
from multispace.model.systems.cvae import CVAE
from multispace.model.systems.joint import Joint
from multispace.model.systems.joint_cvae import JointCVAE
from multispace.model.systems.latent import Latent
from multispace.model.systems.multispace import Multispace

SYSTEMS: dict[str, Callable[[SystemOptions], Captioner]] = {
    "base": Base,
    "latent": Latent,
    "multispace": Multispace,
    "cvae": CVAE,
    "ag-cvae": AGCVAE,
    "beta-cvae": BetaCVAE,
    "joint": Joint,
    "joint-cvae": JointCVAE,
}


def build(options: SystemOptions) -> Captioner:
    """Return a new captioner with weights drawn from torch's random generator."""
    return SYSTEMS[options.system](options)
