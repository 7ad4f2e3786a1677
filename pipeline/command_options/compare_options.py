"""Options of `compare`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.errors import OptionError
from multispace.fields import Options, argument, option
from multispace.pipeline.command_options import shared_options


@dataclass(frozen=True)
class CompareRequest(Options):
    """How `compare` prints its tables."""

    markdown: bool = option("Print the tables in Markdown.", False)
    latex: bool = option("Print the tables in LaTeX.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.markdown and self.latex:
            raise OptionError("choose one", where="--markdown and --latex")

    @property
    def form(self) -> str:
        """The form of the tables: text, markdown or latex."""
        return "markdown" if self.markdown else "latex" if self.latex else "text"


@dataclass(frozen=True)
class CompareOptions(Options):
    """Options of `compare`."""

    runs: Sequence[Path] = field(metadata=argument("Folders of evaluated runs.", path="dir"))
    split: str = shared_options.split()
    checkpoint: str = shared_options.checkpoints()
    names: Sequence[str] = shared_options.names()
    resamples: int = shared_options.resamples()
    seed: int = shared_options.resampling_seed()
    reference: str = shared_options.reference()
    reference_temperature: float = shared_options.reference_temperature()

    def __post_init__(self) -> None:
        super().__post_init__()
        shared_options.check_names(self.names)
        places = [run.resolve() for run in self.runs]
        for run, place in zip(self.runs, places, strict=True):
            if places.count(place) > 1:
                raise OptionError("is given twice", where=run, hint="give each run once")
