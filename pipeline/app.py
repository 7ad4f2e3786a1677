"""Serve a page to play with: captions of several systems side by side, latents set by hand."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

from multispace.data.batches import Pairs, load_pairs
from multispace.data.cache.reader import Cache
from multispace.errors import PipelineError
from multispace.model.device import choose_device
from multispace.pipeline.command_options.app_options import AppOptions
from multispace.pipeline.inference.split_posterior import posterior_of
from multispace.pipeline.model_transfer import local_model
from multispace.pipeline.playground.image_choice import SplitImages, UploadedImages
from multispace.pipeline.playground.latent_controls import LatentControls, choose_controls
from multispace.pipeline.playground.loopback import free_port, launch, private_environment
from multispace.pipeline.playground.page import build_page, load_gradio, page_settings
from multispace.pipeline.playground.player import Player
from multispace.pipeline.playground.visit import Playground
from multispace.pipeline.runs.evaluated_labels import evaluated_labels
from multispace.pipeline.runs.run_cache import open_run_cache
from multispace.pipeline.runs.run_folder import Run, load_run


def app(options: AppOptions, say: Callable[[str], None]) -> NoReturn:
    """Serve the page on this machine until Ctrl-C or SIGTERM.

    :param say: called with lines for people, the address among them
    :raises OptionError: Gradio is not installed, or the port is in use.
    :raises PipelineError: a run and its cache do not belong together.
    :raises KeyboardInterrupt: always, in the end.
    """
    with ended_by_sigterm(), private_environment() as folder:
        gradio = load_gradio()
        port = free_port(options.port)
        blocks = build_page(gradio, load_playground(options))
        address = launch(blocks, port, folder, page_settings(gradio))
        say(f"open {address} in a browser; Ctrl-C ends it")
        try:
            threading.Event().wait()
        finally:
            blocks.close(verbose=False)
    raise AssertionError("nothing ends the wait but an exception")


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM have the effect of Ctrl-C, so that the folder of pictures is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles no signals here
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def load_playground(options: AppOptions) -> Playground:
    """Load the runs and the images of the split.

    :raises PipelineError: a run and its cache do not belong together, or the caches of the runs
        have no image in common.
    """
    device = choose_device(options.device)
    runs = [load_run(local_model(run), device, options.checkpoint) for run in options.runs]
    caches = _Caches(options.split)
    opened = [open_run_cache(run, options.cache) for run in runs]
    pairs = [caches.pairs(cache) for cache in opened]
    images = SplitImages(pairs, options.images)
    if not images.keys:
        raise PipelineError(
            f"the caches of the runs have no image of split {options.split!r} in common",
            where=runs[0].folder,
            hint="give runs of one cache",
        )
    names = _names([run.folder for run in runs])
    players = []
    for name, run, own, place in zip(names, runs, pairs, opened, strict=True):
        controls, note = _controls(run, own, options)
        players.append(Player(name, run, controls, caches.training(place, run), note))
    uploads = UploadedImages(runs, options.weights, options.device)
    return Playground(players, options.split, images, uploads)


class _Caches:
    """The caches of the runs; runs of the same cache share what is read from it."""

    def __init__(self, split: str) -> None:
        self._split = split
        self._pairs: dict[Path, Pairs] = {}
        self._training: dict[tuple[Path, str], Callable[[], Sequence[Sequence[str]]]] = {}

    def pairs(self, opened: Cache) -> Pairs:
        """Return the split of a cache."""
        if opened.root not in self._pairs:
            self._pairs[opened.root] = load_pairs(opened, self._split)
        return self._pairs[opened.root]

    def training(self, opened: Cache, run: Run) -> Callable[[], Sequence[Sequence[str]]]:
        """Return a function that reads the training captions of a run, once."""
        split = run.config["options"]["train_split"]

        @cache
        def read() -> Sequence[Sequence[str]]:
            return [*opened.captions(split).references().values()]

        return self._training.setdefault((opened.root, split), read)


def _controls(run: Run, pairs: Pairs, options: AppOptions) -> tuple[LatentControls, str]:
    """Return the controls of a run, and what the page says about them."""
    system = run.system.options.system
    if system == "base":
        return LatentControls(), "no latents: nothing to set by hand"
    posterior = posterior_of(run.system, pairs)[1]
    labels: list[list[str]] = []
    note = ""
    if posterior.c is not None:
        try:
            labels = evaluated_labels(run.folder, options.split, run.checkpoint)
        except PipelineError as error:
            note = f"categories have no words: {error}"
    return choose_controls(posterior, options.dims, labels), note


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that tell the runs apart."""
    for length in range(1, max(len(folder.parts) for folder in folders)):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
