"""A captioner as two ONNX graphs, for programs without PyTorch.

``encoder.onnx`` turns features into the decoder's condition; ``decoder.onnx`` reads one word:

===================== ======================= =============================================
graph, direction      name                    shape and type
===================== ======================= =============================================
encoder, input        ``features``            (B, D) float32, standardised by the graph
encoder, output       ``condition``           (B, G) float32, the same at every step
decoder, input        ``words``               (B,) int64; BOS at the first step
decoder, input        ``condition``           (B, G) float32
decoder, input        ``state_0`` ...         (B, H) float32 each; zeros at the first step
decoder, output       ``log_probabilities``   (B, V) float32; -inf for PAD, BOS and UNK
decoder, output       ``next_state_0`` ...    (B, H) float32 each
===================== ======================= =============================================
"""

import io
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from multispace.data.captions.vocabulary import BOS, EOS, PAD, UNK
from multispace.errors import OptionError, PipelineError, brief
from multispace.model.beam_search import MAX_WORDS
from multispace.model.decoder import State
from multispace.model.systems.captioner import Captioner, Latents
from multispace.pipeline.inference.decoding import caption_features
from multispace.pipeline.inference.single_captions import decoded_latents
from multispace.pipeline.runs.run_folder import Run
from multispace.version import install_hint

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
CHECKED = 512  # feature vectors whose captions must be equal
NEVER = (PAD, BOS, UNK)  # as in beam search


class Encoder(nn.Module):
    """Features to the decoder's condition."""

    def __init__(self, system: Captioner, latents: Latents) -> None:
        super().__init__()
        self.system, self.latents = system, latents

    def forward(self, features: Tensor) -> Tensor:
        """Return the condition's part of the first layer's gates.

        :param features: (B, D)
        """
        return self.system.decoder.start(self.system.condition(features, self.latents)).condition


class Step(nn.Module):
    """One step of the decoder."""

    def __init__(self, system: Captioner) -> None:
        super().__init__()
        self.decoder = system.decoder

    def forward(self, words: Tensor, condition: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return the log probabilities of the next words, and the new states.

        :param words: int64 (B,)
        :param condition: of the encoder, (B, G)
        :param states: those of the first layer first, (B, H) each
        """
        size = self.decoder.cell.states
        layers = tuple(states[at : at + size] for at in range(0, len(states), size))
        state, logits = self.decoder.step(State(layers, condition), words)
        excluded = torch.zeros(logits.shape[-1])
        excluded[list(NEVER)] = -torch.inf
        return (logits + excluded).log_softmax(-1), *(
            part for layer in state.layers for part in layer
        )


def onnx_graphs(run: Run) -> dict[str, bytes]:
    """Return the graphs of a run's captioner, by file name.

    They make captions with the latents left out if the run's single captions leave them out, and
    from the mode of the latents elsewhere. They are returned only if their greedy captions equal
    those of PyTorch.

    :raises OptionError: a package is missing.
    :raises PipelineError: ONNX cannot express the system, or captions differ.
    """
    _check_packages()
    system, way = run.system, onnx_way(run)
    features = _sample_features(system)
    example = features[:1]  # a size of 1 that is traced as a constant is broadcast
    with torch.no_grad():
        start = system.decoder.start(system.condition(example, way))
    states = [part.clone() for layer in start.layers for part in layer]
    names = [f"state_{number}" for number in range(len(states))]
    words = torch.full((len(example),), BOS)
    try:
        contents = {
            ENCODER: _exported(Encoder(system, way), (example,), ["features"], ["condition"]),
            DECODER: _exported(
                Step(system),
                (words, start.condition, *states),
                ["words", "condition", *names],
                ["log_probabilities", *(f"next_{name}" for name in names)],
            ),
        }
    except torch.onnx.errors.OnnxExporterError as error:
        raise _refused(run, f"ONNX has no such graph ({brief(error, 300)})") from error
    _check_same_captions(run, contents, features, way)
    return contents


def onnx_way(run: Run) -> Latents:
    """Return how the graphs of a run make captions: ``mode`` or ``left-out``."""
    return decoded_latents(run.system.options, run.system.options.single_caption)


def greedy_words(encoder: bytes, decoder: bytes, features: np.ndarray) -> np.ndarray:
    """Return greedy captions by onnxruntime.

    :param features: float32 (N, D)
    :returns: int64 (N, MAX_WORDS): words, EOS, then PAD
    """
    import onnxruntime

    first, step = (
        onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        for graph in (encoder, decoder)
    )
    (condition,) = first.run(None, {"features": features})
    inputs = step.get_inputs()
    hidden = {i.name: i.shape[1] for i in inputs if i.name.startswith("state_")}
    states = [np.zeros((len(features), size), np.float32) for size in hidden.values()]
    words = np.full(len(features), BOS)
    done = np.zeros(len(features), bool)
    captions = []
    for _ in range(MAX_WORDS):
        given = {"words": words, "condition": condition, **dict(zip(hidden, states, strict=True))}
        log_probabilities, *states = step.run(None, given)
        words = np.where(done, PAD, log_probabilities.argmax(-1))
        done |= words == EOS
        captions.append(words)
    return np.stack(captions, axis=1)


def _exported(
    network: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str]
) -> bytes:
    """Return a network as a graph, of any number of rows."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about sizes; the captions are compared
        # The tracer: the newer exporter takes a minute, and fixes the number of rows of `joint`.
        torch.onnx.export(
            network.eval(),
            example,
            file,  # type: ignore[arg-type]  # the tracer takes a file, too
            dynamo=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
        )
    return file.getvalue()


def _check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise OptionError(
            f"needs the package {error.name}", where="--format onnx", hint=install_hint("onnx")
        ) from error
    onnxruntime.set_default_logger_severity(4)  # errors are raised


def _sample_features(system: Captioner) -> Tensor:
    """Return vectors with the moments of the training features, the same each time. (N, D)"""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(CHECKED, len(system.feature_mean), generator=generator)
    return system.feature_mean + system.feature_deviation * drawn


def _check_same_captions(
    run: Run, contents: dict[str, bytes], features: Tensor, way: Latents
) -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    try:
        words = greedy_words(contents[ENCODER], contents[DECODER], features.numpy())
    except (faults.Fail, faults.InvalidArgument, faults.RuntimeException) as error:
        raise _refused(run, f"onnxruntime cannot run it ({brief(error, 300)})") from error
    found = [run.vocabulary.decode(row) for row in words.tolist()]
    expected = caption_features(run.system, features, run.vocabulary, width=1, latents=way)
    if different := sum(one != other for one, other in zip(found, expected, strict=True)):
        what = f"{different} of {len(expected)} feature vectors otherwise than PyTorch"
        raise _refused(run, f"onnxruntime captions {what}")


def _refused(run: Run, what: str) -> PipelineError:
    return PipelineError(what, where=run.folder, hint="export without --format onnx")
