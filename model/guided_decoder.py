"""A decoder that follows its latents more or less closely than it was trained to."""

import torch
from torch import Tensor

from multispace.model.decoder import Decoder, State


class GuidedDecoder:
    """Mixes the words that follow with latents and without them.

    The logits are l0 + guidance (l1 - l0), with l1 those of the decoder with the latents and l0
    those with the latents left out: classifier-free guidance, Ho & Salimans 2022. At 1 the
    decoder reads the latents as it was trained to. Below 1 captions are more probable for the
    image, and differ less.

    It has the methods of :class:`Decoder` that a search needs. A condition is that with the latents
    and that without them side by side, (B, 2 C). The same holds for the condition of a state, whose
    layers are those with the latents and then those without.

    :param decoder: trained with latent dropout
    """

    def __init__(self, decoder: Decoder, guidance: float) -> None:
        self.decoder, self.guidance = decoder, guidance

    def start(self, condition: Tensor) -> State:
        """Return the state before the first word.

        :param condition: (B, 2 C)
        """
        given, without = (self.decoder.start(half) for half in condition.chunk(2, dim=1))
        both = torch.cat((given.condition, without.condition), dim=1)
        return State((*given.layers, *without.layers), both)

    def step(self, state: State, words: Tensor) -> tuple[State, Tensor]:
        """Read one word per caption.

        :param words: int64 (B,)
        :returns: the new state, and the logits of the next words (B, V)
        """
        half = len(state.layers) // 2
        conditions = state.condition.chunk(2, dim=1)
        given, with_latents = self.decoder.step(State(state.layers[:half], conditions[0]), words)
        without, logits = self.decoder.step(State(state.layers[half:], conditions[1]), words)
        layers = (*given.layers, *without.layers)
        return State(layers, state.condition), torch.lerp(logits, with_latents, self.guidance)
