"""The commands as functions: their options are keyword arguments, and they return results.

Each function does what the command of the same name does. Options have the names and defaults
that ``multispace COMMAND --help`` shows, with ``_`` in place of ``-``. Paths may be text.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from multispace.api.arguments import local_path, options_of, path_or_url, plain_number
from multispace.errors import OptionError
from multispace.fields import declared_options

if TYPE_CHECKING:
    from multispace.data.shapes.generator import ShapesSummary
    from multispace.pipeline.compare import Comparison
    from multispace.pipeline.evaluate import Evaluation
    from multispace.pipeline.export import ExportedModel
    from multispace.pipeline.preparation.summary import Summary
    from multispace.pipeline.report import Report
    from multispace.pipeline.score import ScoredResults
    from multispace.pipeline.train import Trained
    from multispace.pipeline.tune import Tuned

PathLike = str | os.PathLike[str]


def shapes(out: PathLike, **options: Any) -> "ShapesSummary":
    """Generate a collection of images of shapes, in COCO form, to try the software with.

    :param out: the folder to make: ``images/`` and ``annotations/train.json``, ``val.json``,
        ``test.json``
    :param options: ``images=2000`` (of all splits together), ``seed=0``, ``captions="open"`` or
        ``"full"``, and ``hold_out=["red circle"]``, pairs that training images do not show
    :raises DataError: ``out`` is not empty, or there are fewer than ten images.
    """
    from multispace.data.shapes import generate_shapes
    from multispace.pipeline.command_options.shapes_options import ShapesOptions

    asked = options_of("shapes", ShapesOptions, {"out": out, **options})
    return generate_shapes(
        asked.out, asked.images, asked.seed, asked.hold_out, captions=asked.captions
    )


def preprocess(*, annotations: PathLike, cache: PathLike, **options: Any) -> "Summary":
    """Turn a captioned image collection into a feature cache, or extend one.

    A call that was interrupted continues when it is repeated.

    :param annotations: the captions: COCO, Karpathy, Flickr or Kaggle format
    :param cache: the folder of the cache
    :param options: ``images="folder"`` or ``captions_only=True``, and the other options of
        ``multispace preprocess``
    :returns: what was added, with the images that were skipped and the reasons
    :raises Error: an option or an input cannot be used.
    """
    from multispace.pipeline.command_options.preprocess_options import PreprocessOptions
    from multispace.pipeline.preprocess import preprocess

    given = {"annotations": annotations, "cache": cache, **options}
    return preprocess(options_of("preprocess", PreprocessOptions, given))


def train(
    system: str | None = None,
    *,
    run: PathLike,
    cache: PathLike | None = None,
    config: PathLike | None = None,
    preset: str | None = None,
    resume: bool = False,
    wandb: str | None = None,
    wandb_images: PathLike | None = None,
    **options: Any,
) -> "Trained":
    """Train a captioning system from a feature cache, and write a run folder.

    Ctrl-C saves a checkpoint and returns; ``stopped`` of the result then names the signal, and
    the same call with ``resume=True`` continues.

    :param system: ``base``, ``latent``, ``multispace`` ...; may be left out, as ``cache`` may,
        where ``config`` or ``resume`` names it
    :param run: the run folder to make
    :param cache: a folder or a URL
    :param config: a YAML file of options, or a run's ``config.json``; ``options`` override it
    :param preset: a named set of options, which ``config`` and ``options`` override
    :param resume: continue the run that is in the folder
    :param wandb: also log to this project of Weights & Biases; needs the extra ``wandb``
    :param wandb_images: the image folder, to log sample captions with their images
    :param options: the other options of ``multispace train``
    :returns: the steps, the best checkpoint and its validation scores
    :raises OptionError: an option cannot be used, or the run folder holds a run already.
    :raises PipelineError: the loss is not finite.
    """
    from multispace.pipeline.command_options.train_options import resolve
    from multispace.pipeline.train import train
    from multispace.pipeline.training.wandb_run import Tracking

    given = {name: plain_number(value) for name, value in options.items()}
    given |= {"run": local_path(run)}
    given |= {} if system is None else {"system": system}
    given |= {} if cache is None else {"cache": path_or_url(cache)}
    file = None if config is None else local_path(config)
    tracking = None
    if wandb is not None:
        tracking = Tracking(wandb, None if wandb_images is None else local_path(wandb_images))
    elif wandb_images is not None:
        raise OptionError("it needs wandb", where="wandb_images")
    resolved = resolve(given, file, preset=preset, resume=resume)
    return train(resolved, resume, tracking=tracking)


def tune(
    system: str,
    *,
    cache: PathLike,
    run: PathLike,
    budget: int | None = None,
    resume: bool = False,
    **options: Any,
) -> "Tuned":
    """Search for the options of a system with Optuna (extra ``tune``), on the validation split.

    Each trial is a run in ``run/trials``. The options of the best one are in ``run/best.yaml``,
    which ``config`` of :func:`train` takes. Ctrl-C ends the search after the current step;
    ``stopped`` of the result then names the signal, and the same call with ``resume=True``
    continues.

    :param system: ``base``, ``latent``, ``multispace`` ...
    :param cache: a folder or a URL
    :param run: the folder of the search to make
    :param budget: optimizer steps of each trial; needed unless a search is continued
    :param resume: continue the search that is in the folder
    :param options: ``trials=20``, ``validations=4``, ``keep="best"``, ``config``, ``preset``, and
        the options of :func:`train` that are fixed and not searched
    :returns: the trials with their scores, and the best one
    :raises OptionError: an option cannot be used, Optuna is not installed, or the folder holds
        something else.
    """
    from multispace.pipeline.command_options.train_options import TrainOptions
    from multispace.pipeline.command_options.tune_options import LENGTH, TuneRequest
    from multispace.pipeline.tuning.resolution import resolve_search

    fixed = {known.name for known, _ in declared_options(TrainOptions)} - {*LENGTH}
    asked = {name: value for name, value in options.items() if name not in fixed}
    asked |= {"budget": budget, "resume": resume}
    request = options_of("tune", TuneRequest, asked)
    given = {name: plain_number(value) for name, value in options.items() if name in fixed}
    given |= {"system": system, "cache": path_or_url(cache), "run": local_path(run)}
    if request.dry_run:
        raise OptionError("tune has no option 'dry_run'", hint="use the command line")
    search = resolve_search(given, request)
    from multispace.pipeline.tune import tune

    return tune(search, resume)


def evaluate(run: PathLike, *, cache: PathLike | None = None, **options: Any) -> "Evaluation":
    """Caption a split, score the captions, and measure what the latent space carries.

    The results are also written below ``RUN/evaluation/``, to ``folder`` of the result.

    :param run: a run folder, or the folder or URL of an exported model
    :param cache: the cache that the run was trained from, if it is no longer where the run
        records it: a folder or a URL
    :param options: ``split="test"``, ``beam=5``, ``samples=20`` and the other options of
        ``multispace evaluate``
    :raises PipelineError: the run and the cache do not belong together, or scoring failed.
    """
    from multispace.pipeline.command_options.evaluate_options import EvaluateOptions
    from multispace.pipeline.evaluate import evaluate

    given = {"run": run, "cache": cache, **options}
    return evaluate(options_of("evaluate", EvaluateOptions, given))


def score(results: PathLike, *, annotations: PathLike, **options: Any) -> "ScoredResults":
    """Score captions in COCO results format by BLEU, METEOR, ROUGE-L and CIDEr.

    :param results: ``[{"image_id": ..., "caption": ...}, ...]`` as a JSON file
    :param annotations: the reference captions, in any known format
    :param options: ``metrics=["bleu", "cider"]`` computes some of the metrics
    :raises PipelineError: the results cannot be read, or name other images.
    """
    from multispace.pipeline.command_options.score_options import ScoreOptions
    from multispace.pipeline.score import score_results

    given = {"results": results, "annotations": annotations, **options}
    asked = options_of("score", ScoreOptions, given)
    return score_results(asked.results, asked.annotations, asked.metrics)


def compare(runs: Iterable[PathLike], **options: Any) -> "Comparison":
    """Compare evaluated runs over their seeds, with 95 % intervals of all differences.

    :param runs: run folders that :func:`evaluate` has been called on
    :param options: those of ``multispace compare``
    :raises PipelineError: a run is not evaluated, or the runs do not compare.
    """
    from multispace.pipeline.command_options.compare_options import CompareOptions
    from multispace.pipeline.compare import compare

    return compare(options_of("compare", CompareOptions, {"runs": runs, **options}))


def report(runs: Iterable[PathLike], **options: Any) -> "Report":
    """Write one HTML page about evaluated runs: scores, latents, learning curves, examples.

    :param runs: run folders that :func:`evaluate` has been called on
    :param options: ``out="report.html"`` and the other options of ``multispace report``
    :raises PipelineError: a run is not evaluated, or the runs do not compare.
    """
    from multispace.pipeline.command_options.report_options import ReportOptions
    from multispace.pipeline.report import report

    return report(options_of("report", ReportOptions, {"runs": runs, **options}))


def export(run: PathLike, *, out: PathLike, **options: Any) -> "ExportedModel":
    """Write a trained model to a new folder that can be passed on; :func:`load_run` opens it.

    :param run: a run folder
    :param out: the folder to make
    :param options: ``license="cc-by-4.0"``, ``datasets=["flickr8k"]`` and the other options of
        ``multispace export``
    :returns: the digest over all files, and their sizes
    :raises OptionError: ``out`` exists.
    :raises PipelineError: the run or one of its evaluations is damaged.
    """
    from multispace.pipeline.command_options.export_options import ModelExportOptions
    from multispace.pipeline.export import export

    return export(options_of("export", ModelExportOptions, {"run": run, "out": out, **options}))
