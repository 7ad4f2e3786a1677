"""Systems whose decoder reads the image, and whose z describes what the image leaves open."""

import math

from torch import Tensor, nn

from multispace.model.encoder import Encoder, Words
from multispace.model.latent.distributions import DiagonalGaussian
from multispace.model.options import SystemOptions
from multispace.model.systems.captioner import Captioner
from multispace.model.systems.layers import feature_layer, gaussian_layer


class Conditional(Captioner):
    """A captioner with q(z | v, w) and the prior N(0, I), whose decoder reads e = W v beside z.

    For a new image there is no caption, and z comes from its prior.

    :param condition: size of the condition without e
    """

    reads_captions = True

    def __init__(self, options: SystemOptions, condition: int) -> None:
        super().__init__(options, condition + options.embedding)
        self.embed = feature_layer(options, options.embedding)
        self.encoder = Encoder(
            embedding=options.embedding, hidden=options.hidden, cell=options.cell
        )
        self.z_parameters = gaussian_layer(options)
        self.z_words = nn.Linear(options.hidden, 2 * options.z_size, bias=False)

    def gaussian(self, standard: Tensor, words: Words | None) -> DiagonalGaussian:
        """Return q(z | v, w); without captions, the prior with its std times --sample-deviation.

        The mean and the log variance are linear in the features and in the last output of a
        recurrent network over the caption.

        :param standard: standardised features, (B, D)
        """
        if words is None:
            zeros = standard.new_zeros(standard.shape[0], self.options.z_size)
            return DiagonalGaussian(zeros, zeros + 2 * math.log(self.options.sample_deviation))
        from_words = self.z_words(self.encoder(self.decoder.embedding, words))  # (B, 2 z_size)
        return DiagonalGaussian.from_parameters(self.z_parameters(standard) + from_words)
