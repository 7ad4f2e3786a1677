"""The page in Gradio: components, and which answer each of them changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multispace.errors import ImageError, OptionError
from multispace.pipeline.playground import fragments
from multispace.pipeline.playground.image_choice import ChosenImage
from multispace.pipeline.playground.latent_controls import LIMIT, Menu
from multispace.pipeline.playground.page_style import CSS
from multispace.pipeline.playground.player import MAX_BEAM, MAX_SAMPLES, Player
from multispace.pipeline.playground.visit import (
    MAX_GUIDANCE,
    MAX_SEED,
    MAX_TEMPERATURE,
    Playground,
)
from multispace.version import install_hint

TITLE = "multispace: captions side by side"
MAX_KEYS = 1000  # in the menu of images; any other key can be typed
NARROW = 240  # pixels; a narrower column moves below the others
GALLERY = 24  # pictures to pick from
GALLERY_SIDE = 160  # pixels of their longer side


def load_gradio() -> Any:
    """Return the module ``gradio``.

    :raises OptionError: it is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise OptionError("app needs Gradio", hint=install_hint("app")) from error
    return gradio


@dataclass(frozen=True)
class Column:
    """The components of one system."""

    controls: Sequence[Any]
    reset: Any  # None for a system without latents
    answer: Any
    samples: Any

    @property
    def changing(self) -> list[Any]:
        """What another image changes."""
        return [*self.controls, self.answer, self.samples]


def build_page(gr: Any, playground: Playground) -> Any:
    """Return the page as Gradio's Blocks.

    :param gr: the module ``gradio``
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        image = gr.State()
        _html(gr, f"<h1>{TITLE}</h1>")
        with gr.Row():
            with gr.Column(scale=1, min_width=NARROW, elem_id="ms-image"):
                chooser = _Chooser.build(gr, playground)
            with gr.Column(scale=4, min_width=NARROW):
                search = _Search.build(gr)
                with gr.Row(elem_id="ms-systems"):
                    columns = [_column(gr, player) for player in playground.players]
        _Wiring(gr, playground, image, chooser, search, columns).connect(blocks)
    blocks.queue(max_size=32, default_concurrency_limit=1, api_open=False)
    return blocks


def page_settings(gr: Any) -> dict[str, Any]:
    """Return the parameters of ``launch`` about the looks: fonts of the system, no links."""
    fonts = [gr.themes.Font(name) for name in ("system-ui", "sans-serif")]
    mono = [gr.themes.Font(name) for name in ("ui-monospace", "monospace")]
    theme = gr.themes.Default(font=fonts, font_mono=mono, primary_hue="blue")
    return {"theme": theme, "css": CSS, "footer_links": []}


@dataclass(frozen=True)
class _Chooser:
    """The components that choose the image, and those that show it."""

    key: Any
    back: Any
    on: Any
    gallery: Any  # None where there are no pictures
    names: Sequence[str]  # of the pictures of the gallery
    file: Any
    status: Any
    picture: Any

    @classmethod
    def build(cls, gr: Any, playground: Playground) -> "_Chooser":
        keys = playground.images.keys
        label = f"Image of split {playground.split} ({len(keys)} images)"
        key = gr.Dropdown(
            keys[:MAX_KEYS], value=keys[0], label=label, allow_custom_value=True, elem_id="ms-key"
        )
        with gr.Row():
            back = gr.Button("Previous", size="sm", min_width=80, elem_id="ms-back")
            on = gr.Button("Next", size="sm", min_width=80, elem_id="ms-next")
        status = _html(gr, elem_id="ms-status")
        picture = _html(gr, elem_id="ms-picture")
        file = gr.File(label="Or drop an image here", height=150, elem_id="ms-file")
        pictures = _pictures(playground)
        gallery = None
        if pictures:
            gallery = gr.Gallery(
                [picture for picture, _ in pictures], label="Or pick one", columns=3, height=300,
                object_fit="contain", allow_preview=False, interactive=False, buttons=[],
                elem_id="ms-gallery",
            )  # fmt: skip
        names = [name for _, name in pictures]
        return cls(key, back, on, gallery, names, file, status, picture)


@dataclass(frozen=True)
class _Search:
    """The components that say how captions are made."""

    beam: Any
    count: Any
    temperature: Any
    latent_temperature: Any
    guidance: Any
    seed: Any
    draw: Any

    @classmethod
    def build(cls, gr: Any) -> "_Search":
        plain = {"buttons": [], "min_width": 150}
        with gr.Row(elem_id="ms-search"):
            beam = gr.Slider(1, MAX_BEAM, 5, step=1, label="Beam", elem_id="ms-beam", **plain)
            count = gr.Slider(1, MAX_SAMPLES, 5, step=1, label="Samples", **plain)
            words = gr.Slider(0, MAX_TEMPERATURE, 0.5, step=0.1, label="Word temperature", **plain)
            latents = gr.Slider(
                0.1, MAX_TEMPERATURE, 1, step=0.1, label="Latent temperature", **plain
            )
            guidance = gr.Slider(0, MAX_GUIDANCE, 1, step=0.05, label="Guidance", **plain)
            seed = gr.Number(
                0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed", min_width=100
            )
        draw = gr.Button("Draw samples and their consensus", variant="primary", elem_id="ms-draw")
        return cls(beam, count, words, latents, guidance, seed, draw)


@dataclass(frozen=True)
class _Wiring:
    """Which components change which."""

    gr: Any
    playground: Playground
    image: Any
    chooser: _Chooser
    search: _Search
    columns: Sequence[Column]

    def connect(self, blocks: Any) -> None:
        """Connect every component with what it changes."""
        chooser, search = self.chooser, self.search
        outputs = [
            self.image, chooser.key, chooser.status, chooser.picture, chooser.file,
            *(part for column in self.columns for part in column.changing),
        ]  # fmt: skip
        shown: dict[str, Any] = {"outputs": outputs, **_ALONE}
        with_key = [chooser.key, search.beam]
        blocks.load(self._pick, with_key, **shown)
        chooser.key.input(self._pick, with_key, **shown)
        chooser.back.click(self._step(-1), with_key, **shown)
        chooser.on.click(self._step(1), with_key, **shown)
        chooser.file.upload(self._upload, [chooser.file, search.beam], **shown)
        if chooser.gallery is not None:
            chooser.gallery.select(self._pick_picture(), search.beam, **shown)
        for number, column in enumerate(self.columns):
            inputs = [self.image, search.beam, *column.controls]
            answer: dict[str, Any] = {"inputs": inputs, "outputs": column.answer, **_ALONE}
            for control in column.controls:
                control.input(self._answer(number), trigger_mode="always_last", **answer)
            search.beam.input(self._answer(number), trigger_mode="always_last", **answer)
            if column.reset is not None:
                changed = [*column.controls, column.answer]
                column.reset.click(
                    self._reset(number), [self.image, search.beam], changed, **_ALONE
                )
        drawing = [
            self.image, search.count, search.beam, search.temperature, search.latent_temperature,
            search.guidance, search.seed,
        ]  # fmt: skip
        search.draw.click(
            self._draw, drawing, [column.samples for column in self.columns], **_ALONE
        )

    def _pick(self, key: object, beam: object) -> list[Any]:
        return self._show(self.playground.choose(key), beam, key)

    def _step(self, step: int) -> Callable[..., list[Any]]:
        def move(key: object, beam: object) -> list[Any]:
            return self._pick(self.playground.next_key(key, step), beam)

        return move

    def _pick_picture(self) -> Callable[..., list[Any]]:
        gr = self.gr

        def pick(beam: object, event: gr.SelectData) -> list[Any]:  # type: ignore[name-defined]
            return self._pick(self.chooser.names[event.index], beam)

        return pick

    def _upload(self, path: str, beam: object) -> list[Any]:
        try:
            chosen = self.playground.upload(path)
        finally:
            Path(path).unlink(missing_ok=True)  # Gradio's copy in the folder of the page
        return self._show(chosen, beam, None)

    def _show(self, chosen: ChosenImage | str, beam: object, key: object) -> list[Any]:
        """Return the values of everything that another image changes."""
        if isinstance(chosen, str):  # keep the image, and say what is wrong
            unchanged = [self.gr.skip() for column in self.columns for _ in column.changing]
            skip = self.gr.skip()
            return [skip, skip, fragments.failure(chosen), skip, None, *unchanged]
        values: list[Any] = [chosen, key, "", fragments.picture(chosen), None]
        for number in range(len(self.columns)):
            values += [*self._own(chosen, number, beam), ""]
        return values

    def _own(self, image: ChosenImage, number: int, beam: object) -> list[Any]:
        own = self.playground.own(image, number)
        return [*own, self.playground.answer(image, number, own, beam)]

    def _answer(self, number: int) -> Callable[..., str]:
        def answer(image: ChosenImage | None, beam: object, *values: object) -> str:
            return self.playground.answer(image, number, values, beam)

        return answer

    def _reset(self, number: int) -> Callable[..., list[Any]]:
        def reset(image: ChosenImage, beam: object) -> list[Any]:
            return self._own(image, number, beam)

        return reset

    def _draw(self, image: ChosenImage | None, *asked: object) -> Any:
        texts = [self.playground.draw(image, n, *asked) for n in range(len(self.columns))]
        return texts if len(texts) > 1 else texts[0]


_ALONE: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


def _column(gr: Any, player: Player) -> Column:
    """Return the components of one system, inside a row."""
    run = player.run
    system = run.system.options.system
    with gr.Column(min_width=NARROW, elem_classes="ms-system"):
        summary = f"{system}, {run.checkpoint} checkpoint, step {run.step}"
        _html(gr, fragments.heading(player.name, summary, player.note))
        answer = _html(gr)
        samples = _html(gr)
        controls = []
        for control in player.controls.each:
            if isinstance(control, Menu):
                controls.append(gr.Dropdown(control.ordered, label=control.label))
            else:
                controls.append(
                    gr.Slider(-LIMIT, LIMIT, 0, step=0.01, label=control.label, buttons=[])
                )
        own = f"Back to the image's own {player.controls.names}"
        reset = gr.Button(own, size="sm") if controls else None
    return Column(controls, reset, answer, samples)


def _html(gr: Any, value: str = "", **settings: Any) -> Any:
    """Return a component for HTML, which the browser cleans of scripts.

    ``gr.HTML`` evaluates templates as JavaScript, which the page does not allow.
    """
    return gr.Markdown(value, sanitize_html=True, latex_delimiters=[], **settings)


def _pictures(playground: Playground) -> list[tuple[Any, str]]:
    """Return pictures to pick from, evenly spaced over the split, with their keys."""
    images = playground.images
    if images.folder is None:
        return []
    keys = images.keys
    count = min(GALLERY, len(keys))
    found = []
    for key in (keys[place * len(keys) // count] for place in range(count)):
        try:
            picture = images.picture(key)
        except ImageError:
            continue  # choosing it says why
        picture.thumbnail((GALLERY_SIDE, GALLERY_SIDE))
        found.append((picture, key))
    return found
