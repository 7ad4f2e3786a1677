"""Show what single latents do: captions while one latent changes, and what categories mean."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multispace.data.batches import load_pairs
from multispace.data.files import atomic_write, write_json
from multispace.errors import OptionError
from multispace.model.device import choose_device
from multispace.model.latent.posterior import Posterior
from multispace.pipeline.command_options.explore_options import ExploreOptions
from multispace.pipeline.inference.decoding import caption_conditions
from multispace.pipeline.inference.split_posterior import posterior_of
from multispace.pipeline.metrics.latents.category_report import (
    category_lines,
    category_report,
    category_table,
)
from multispace.pipeline.model_transfer import local_model
from multispace.pipeline.reporting.traversals import NAME, exploration_folder
from multispace.pipeline.runs.run_cache import open_run_cache
from multispace.pipeline.runs.run_folder import Run, load_run

SWEEP = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # values of z, whose prior has a std of 1
MAX_IMAGES = 1000  # whose words are counted
WORDS = 5  # that rise most, and that fall most, for each latent


@dataclass(frozen=True)
class Latent:
    """One dimension of z, or one category of a variable of c, and the values that it takes."""

    name: str  # z17, or c0=5
    weight: float  # KL of the dimension in nats; fraction of the images in the category
    columns: tuple[int, ...]  # of [z ; c]: the dimension, or all of the variable
    values: Mapping[str, tuple[float, ...]]  # of the columns, by label


@dataclass(frozen=True)
class Traversal:
    """Captions of one image by the value of one latent."""

    key: str
    caption: str  # with the image's own latents
    latent: str
    captions: dict[str, str]


@dataclass(frozen=True)
class Words:
    """The words whose frequency over captions a latent changes most: the change, by word.

    Of a dimension, the change from -3 to 3; of a category, from each image's own to this one.
    """

    latent: str
    weight: float
    rise: dict[str, float]
    fall: dict[str, float]


@dataclass(frozen=True)
class Exploration:
    """Result of `explore`."""

    folder: Path
    images: int  # whose words are counted
    traversals: tuple[Traversal, ...]
    words: tuple[Words, ...]
    meaning: dict[str, Any] | None  # of the categories; None for a system without c
    dims: int  # categories of a variable that the text shows; the JSON has all

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        values = {**asdict(self), "folder": str(self.folder), "pictures": self.images}
        del values["images"], values["dims"]  # the file says pictures
        return values

    def render(self) -> str:
        """Return the text and where it is written."""
        return "\n".join([*self.lines(), f"written to {self.folder}"])

    def lines(self) -> list[str]:
        """Return the captions of each image, the words of each latent, and the categories."""
        lines = []
        for key in dict.fromkeys(t.key for t in self.traversals):
            own = [t for t in self.traversals if t.key == key]
            lines += ["", f"{key}  {own[0].caption}"]
            for traversal in own:
                for value, caption in traversal.captions.items():
                    lines.append(f"  {traversal.latent:>8} {value:>4}  {caption}".rstrip())
        lines += ["", f"words in the captions of {self.images} images, change of the fraction of "
                  "captions that have them: z from -3 to 3, c from each image's own category",
                  "  latent  KL/share  rise; fall"]  # fmt: skip
        for words in self.words:
            rise, fall = (
                ", ".join(f"{word} {change:+.0%}" for word, change in side.items()) or "-"
                for side in (words.rise, words.fall)
            )
            lines.append(f"{words.latent:>8}  {words.weight:8.2f}  {rise}; {fall}")
        if self.meaning is not None:
            lines += ["", *category_lines(self.meaning)]
            head, rows = category_table(self.meaning, self.dims)
            for name, share, telling, example in (head, *rows):
                lines.append(f"{name:>8}  {share:>13}  {telling:<48}  {example}".rstrip())
        return lines[1:]


@torch.no_grad()
def explore(options: ExploreOptions) -> Exploration:
    """Change the ``dims`` dimensions of z with the largest KL, and the commonest categories of c.

    The other latents stay at the posterior's mean (z) and arg max (c). Captions are greedy.
    The words, shares and examples of all categories are those of :func:`.category_report`.
    Writes ``RUN/exploration/SPLIT/exploration.json`` and ``exploration.txt``.

    :raises OptionError: the system has no latents, or a key is not in the split.
    :raises PipelineError: the run and the cache do not belong together.
    """
    run = load_run(local_model(options.run), choose_device(options.device), options.checkpoint)
    if run.system.options.system == "base":
        raise OptionError("base has no latents", where=run.folder, hint="explore another system")
    cache = open_run_cache(run, options.cache)
    pairs = load_pairs(cache, options.split)
    keys = pairs.keys
    rows = {key: row for row, key in enumerate(keys)}
    wanted = list(options.keys) or keys[: options.images]
    if missing := [key for key in wanted if key not in rows]:
        raise OptionError(
            f"no image with a vector in split {options.split!r} of {cache.root}",
            where=f"--key {missing[0]}",
        )

    in_use = run.system.posterior(pairs.features.to(run.system.feature_mean.device))
    latents = choose_latents(posterior_of(run.system, pairs)[1], options.dims)
    shown = in_use.select(torch.tensor([rows[key] for key in wanted]))
    counted = in_use.select(torch.arange(min(MAX_IMAGES, len(keys))))
    found = Exploration(
        folder=exploration_folder(run.folder, options.split),
        images=min(MAX_IMAGES, len(keys)),
        traversals=traverse(run, shown, wanted, latents),
        words=tuple(count_words(run, counted, latents)),
        meaning=category_report(run.system, pairs, run.vocabulary),
        dims=options.dims,
    )
    write_json(found.folder / NAME, found.to_json())
    with atomic_write(found.folder / "exploration.txt") as file:
        file.write(("\n".join(found.lines()) + "\n").encode())
    return found


def choose_latents(posterior: Posterior, dims: int) -> list[Latent]:
    """Return the ``dims`` dimensions of z with the largest mean KL and as many categories.

    The categories are, of each variable of c, the commonest by mean probability.
    """
    chosen, start = [], 0
    if posterior.z is not None:
        kl = posterior.z.kl().mean(0)
        start = len(kl)
        values = {f"{value:+g}": (value,) for value in SWEEP}
        for i in kl.argsort(descending=True)[:dims].tolist():
            chosen.append(Latent(f"z{i}", float(kl[i]), (i,), values))
    for number, log_p in enumerate(posterior.c.log_probabilities if posterior.c else ()):
        share, size = log_p.exp().mean(0), log_p.shape[-1]
        columns = tuple(range(start, start + size))
        for k in share.argsort(descending=True)[:dims].tolist():
            one_hot = tuple(float(i == k) for i in range(size))
            chosen.append(Latent(f"c{number}={k}", float(share[k]), columns, {"on": one_hot}))
        start += size
    return chosen


def traverse(
    run: Run, posterior: Posterior, keys: Sequence[str], latents: Sequence[Latent]
) -> tuple[Traversal, ...]:
    """Caption each of P images with each latent at each of its values."""
    own = posterior.latents()
    plain = caption_conditions(run.system, posterior.condition(own), run.vocabulary)
    moved = [
        _set(row, latent, value)
        for row in own.split(1)
        for latent in latents
        for value in latent.values.values()
    ]
    each = torch.arange(len(keys)).repeat_interleave(len(moved) // len(keys))
    conditions = posterior.select(each).condition(torch.cat(moved))
    texts = iter(caption_conditions(run.system, conditions, run.vocabulary))
    return tuple(
        Traversal(key, caption, latent.name, {label: next(texts) for label in latent.values})
        for key, caption in zip(keys, plain, strict=True)
        for latent in latents
    )


def count_words(run: Run, posterior: Posterior, latents: Sequence[Latent]) -> list[Words]:
    """Compare the words of all images' captions between the first and last value of a latent."""

    def shares(moved: Tensor) -> dict[str, float]:
        conditions = posterior.condition(moved)
        return word_shares(caption_conditions(run.system, conditions, run.vocabulary))

    own = posterior.latents()
    plain, table = shares(own), []
    for latent in latents:
        *before, after = latent.values.values()
        start = shares(_set(own, latent, before[0])) if before else plain
        rise, fall = largest_changes(start, shares(_set(own, latent, after)))
        table.append(Words(latent.name, latent.weight, rise, fall))
    return table


def word_shares(captions: Sequence[str]) -> dict[str, float]:
    """Return the fraction of captions that contain each word."""
    counts = Counter(word for caption in captions for word in set(caption.split()))
    return {word: count / len(captions) for word, count in counts.items()}


def largest_changes(
    before: dict[str, float], after: dict[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the words whose fractions rise most and fall most, and by how much."""
    changes = {word: after.get(word, 0) - before.get(word, 0) for word in before | after}
    order = sorted(changes, key=lambda word: (-changes[word], word))
    rise = {word: changes[word] for word in order[:WORDS] if changes[word] > 0}
    fall = {word: changes[word] for word in order[: -WORDS - 1 : -1] if changes[word] < 0}
    return rise, fall


def _set(latents: Tensor, latent: Latent, value: Sequence[float]) -> Tensor:
    """Return a copy of [z ; c], (P, L), with one latent at ``value``."""
    changed = latents.clone()
    changed[:, list(latent.columns)] = changed.new_tensor(value)
    return changed
