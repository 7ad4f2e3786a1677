"""What the page answers: images, captions and samples as HTML, and errors as one line."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from multispace.errors import OptionError
from multispace.pipeline.console.exit_on_error import describe, is_expected
from multispace.pipeline.inference.samples import Sampling
from multispace.pipeline.playground import fragments
from multispace.pipeline.playground.image_choice import ChosenImage, SplitImages, UploadedImages
from multispace.pipeline.playground.player import Drawn, Player

MAX_TEMPERATURE = MAX_GUIDANCE = 2.0
MAX_SEED = 1 << 31

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Playground:
    """The systems of the page, and where its images come from."""

    players: Sequence[Player]
    split: str
    images: SplitImages
    uploads: UploadedImages

    def choose(self, key: object) -> ChosenImage | str:
        """Return an image of the split, or a line that says why there is none."""
        return _or_line(lambda: self.images.choose(key))

    def upload(self, path: str) -> ChosenImage | str:
        """Return an uploaded image, or a line that says why it cannot be used."""
        return _or_line(lambda: self.uploads.choose(Path(path)))

    def next_key(self, key: object, step: int) -> str:
        """Return the key that is ``step`` places after ``key``, round the split."""
        keys = self.images.keys
        place = keys.index(key) + step if isinstance(key, str) and key in keys else 0
        return keys[place % len(keys)]

    def own(self, image: ChosenImage, number: int) -> list[Any]:
        """Return the values of a system's controls that an image itself has."""
        player, features = self.players[number], image.features[number]
        if features is None:
            return [None] * len(player.controls.each)
        return player.own(features)

    def answer(
        self, image: ChosenImage | None, number: int, values: Sequence[object], beam: object
    ) -> str:
        """Return the captions of a system for an image, with its latents as set."""
        if image is None:
            return ""
        player, features = self.players[number], image.features[number]
        if features is None:
            return fragments.failure(image.reasons[number])

        def caption() -> tuple[list[str], str | None]:
            width = _whole("beam", beam)
            found = player.captions(features, values, width)
            # From the mode of the latents it is the caption of the image's own, shown anyway.
            return found, None if player.way == "mode" else player.single(features, width)

        found = _or_line(caption)
        if isinstance(found, str):
            return fragments.failure(found)
        return fragments.answer(*found, player.way, player.controls.names)

    def draw(
        self,
        image: ChosenImage | None,
        number: int,
        count: object,
        beam: object,
        temperature: object,
        latent_temperature: object,
        guidance: object,
        seed: object,
    ) -> str:
        """Return samples of a system for an image, and their consensus.

        What a system has not, its latents or a decoder that can be guided, is left as it is.
        """
        if image is None:
            return ""
        player, features = self.players[number], image.features[number]
        if features is None:
            return ""

        def sample() -> Drawn:
            latents = _number("latent temperature", latent_temperature, 0.01)
            guided = _number("guidance", guidance)
            options = player.run.system.options
            sampling = Sampling(
                count=_whole("samples", count),
                seed=_whole("seed", seed, MAX_SEED),
                width=_whole("beam", beam),
                temperature=_number("word temperature", temperature),
                latent_temperature=1.0 if options.system == "base" else latents,
                guidance=guided if options.may_leave_out else 1.0,
            )
            return player.draw(features, sampling)

        found = _or_line(sample)
        return fragments.failure(found) if isinstance(found, str) else fragments.drawn(found)


def _or_line(make: Callable[[], Answer]) -> Answer | str:
    """Return what ``make`` returns, or the line of an error that people can act on."""
    try:
        return make()
    except Exception as error:
        if not is_expected(error):
            raise
        return describe(error)


def _whole(name: str, value: object, largest: int = 1 << 31) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError("it must be a number", where=name)
    if not 0 <= value <= largest or value != int(value):
        raise OptionError(f"it must be a whole number from 0 to {largest}", where=name)
    return int(value)


def _number(name: str, value: object, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError("it must be a number", where=name)
    if not least <= value <= MAX_TEMPERATURE:
        raise OptionError(f"it must be from {least:g} to {MAX_TEMPERATURE:g}", where=name)
    return float(value)
