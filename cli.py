"""The command line: each command parses its options, calls one function, and emits its result.

The options are declared on dataclasses; :mod:`multispace.pipeline.console.click_commands` turns
them into parameters, errors into exit statuses, and results into text or JSON.
"""

from typing import Any

import click

from multispace.data.external_vectors.import_options import ImportOptions
from multispace.errors import OptionError
from multispace.model.options import SYSTEM_KINDS
from multispace.pipeline.command_options.app_options import AppOptions
from multispace.pipeline.command_options.cache_options import (
    DiffOptions,
    ExportOptions,
    InfoOptions,
    MergeOptions,
    PullOptions,
    PushOptions,
    RepairOptions,
    VerifyOptions,
)
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.command_options.compare_options import CompareOptions, CompareRequest
from multispace.pipeline.command_options.demo_options import DemoOptions
from multispace.pipeline.command_options.doctor_options import DoctorOptions
from multispace.pipeline.command_options.evaluate_options import EvaluateOptions
from multispace.pipeline.command_options.explore_options import ExploreOptions
from multispace.pipeline.command_options.export_options import ModelExportOptions
from multispace.pipeline.command_options.preprocess_options import (
    PREPROCESS_GROUPS,
    PreprocessOptions,
    PreprocessRequest,
)
from multispace.pipeline.command_options.report_options import ReportOptions
from multispace.pipeline.command_options.score_options import ScoreOptions
from multispace.pipeline.command_options.shapes_options import ShapesOptions
from multispace.pipeline.command_options.train_options import (
    GROUPS,
    TrainOptions,
    TrainRequest,
    resolve,
)
from multispace.pipeline.command_options.transfer_options import ModelPullOptions, ModelPushOptions
from multispace.pipeline.command_options.tune_options import LENGTH, TuneRequest
from multispace.pipeline.console.click_commands import Commands
from multispace.pipeline.console.emit import Formatted, Result
from multispace.pipeline.console.help import WIDTH
from multispace.version import SOFTWARE

NOTHING_WRITTEN = "nothing was written"
RUN_AGAIN = "run the same command again to continue"
NOTES = {
    "Exit status": (
        "0    done",
        "1    the work failed; one line on stderr names the cause",
        "2    wrong usage",
        "3    done, but some inputs were skipped; each is named",
        "130  interrupted with Ctrl-C (128 + the signal, when `train` is stopped)",
    ),
    "Shell completion": (
        "Add the line of your shell to its start-up file:",
        'bash  eval "$(_MULTISPACE_COMPLETE=bash_source multispace)"',
        'zsh   eval "$(_MULTISPACE_COMPLETE=zsh_source multispace)"',
        "fish  _MULTISPACE_COMPLETE=fish_source multispace | source",
    ),
}


@click.group(
    cls=Commands,
    notes=NOTES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)
@click.version_option(package_name=SOFTWARE, prog_name="multispace")
def main() -> None:
    """Caption images with joint continuous and discrete latent spaces.

    Preprocess a captioned image collection once, train systems from the feature cache, and
    evaluate them. `multispace COMMAND --help` shows the options of a command, with examples.
    """


@main.add(
    ShapesOptions,
    examples=[
        "multispace shapes shapes",
        'multispace shapes shapes --images 5000 --hold-out "red circle"',
    ],
    interrupted=NOTHING_WRITTEN,
)
def shapes(options: ShapesOptions) -> Result:
    """Generate an image collection with known factors, in COCO format."""
    from multispace.data.shapes import generate_shapes

    return generate_shapes(
        options.out,
        options.images,
        options.seed,
        options.hold_out,
        captions=options.captions,
    )


@main.add(
    PreprocessOptions,
    PreprocessRequest,
    groups=PREPROCESS_GROUPS,
    examples=[
        "multispace preprocess --annotations captions_train2014.json \\",
        "    --images train2014 --cache coco",
        "multispace preprocess --annotations captions.txt --images Images \\",
        "    --cache flickr8k --split train --dry-run",
    ],
    interrupted=RUN_AGAIN,
)
def preprocess(options: PreprocessOptions, request: PreprocessRequest) -> Result:
    """Turn a captioned image collection into a feature cache."""
    if request.dry_run:
        from multispace.pipeline.preparation.estimate import estimate

        return estimate(options)
    from multispace.pipeline.preprocess import preprocess

    return preprocess(options)


@main.add(
    TrainRequest,
    partial=TrainOptions,
    groups=GROUPS,
    sections={"Systems": [(name, kind.summary) for name, kind in SYSTEM_KINDS.items()]},
    examples=[
        "multispace train multispace --cache coco --run runs/multispace",
        "multispace train base --cache coco --run runs/base --preset fast",
        "multispace train --run runs/base --resume",
    ],
    interrupted="what was saved is kept; continue with --resume",
)
def train(request: TrainRequest, given: dict[str, Any]) -> Result:
    """Train a system on a feature cache."""
    options = resolve(given, request.config, preset=request.preset, resume=request.resume)
    if request.dry_run:
        from multispace.pipeline.training.dry_run import plan

        return plan(options)
    from multispace.pipeline.train import train
    from multispace.pipeline.training.wandb_run import Tracking

    tracking = Tracking(request.wandb, request.wandb_images) if request.wandb else None
    return train(options, request.resume, tracking=tracking)


@main.add(
    EvaluateOptions,
    examples=[
        "multispace evaluate runs/multispace",
        "multispace evaluate runs/multispace --split val --samples 5 --json",
    ],
    interrupted="nothing was written; an earlier evaluation is kept",
)
def evaluate(options: EvaluateOptions) -> Result:
    """Caption a split, score the captions, and measure the information in the latents."""
    from multispace.pipeline.evaluate import evaluate

    return evaluate(options)


@main.add(
    ScoreOptions,
    examples=["multispace score captions.json --annotations captions_val2014.json"],
    interrupted=NOTHING_WRITTEN,
)
def score(options: ScoreOptions) -> Result:
    """Score captions in COCO results format, made by this or any other software."""
    from multispace.pipeline.score import score_results

    return score_results(options.results, options.annotations, options.metrics)


@main.add(
    CaptionOptions,
    examples=[
        "multispace caption runs/multispace a.jpg b.jpg",
        "multispace caption runs/base a.jpg --samples 5 --temperature 0.6",
        "multispace caption runs/multispace photos 'more/*.jpg' --html sheet.html",
    ],
    interrupted=NOTHING_WRITTEN,
)
def caption(options: CaptionOptions) -> Result:
    """Caption images with a run."""
    from multispace.pipeline.caption import caption

    return caption(options)


@main.add(
    CompareOptions,
    CompareRequest,
    examples=[
        "multispace compare runs/base runs/latent runs/multispace",
        "multispace compare runs/* --name 'base=runs/base-*' --latex > table.tex",
    ],
    interrupted=NOTHING_WRITTEN,
)
def compare(options: CompareOptions, request: CompareRequest) -> Result:
    """Compare runs averaged over seeds, with 95 % confidence intervals for differences."""
    from multispace.pipeline.compare import compare

    if request.form == "text":
        return compare(options)
    if click.get_current_context().params["as_json"]:
        raise OptionError("choose one", where=f"--json and --{request.form}")
    found = compare(options)
    return Formatted(found, found.render(request.form))


@main.add(
    ReportOptions,
    examples=["multispace report runs/* --images val2014 --out report.html"],
    interrupted=NOTHING_WRITTEN,
)
def report(options: ReportOptions) -> Result:
    """Write an HTML page about evaluated runs: scores, latents, learning curves, examples."""
    from multispace.pipeline.report import report

    return report(options)


@main.add(
    ExploreOptions,
    examples=["multispace explore runs/multispace --key 000000000042.jpg"],
    interrupted=NOTHING_WRITTEN,
)
def explore(options: ExploreOptions) -> Result:
    """Show how captions change when one latent variable changes."""
    from multispace.pipeline.explore import explore

    return explore(options)


@main.add(
    AppOptions,
    examples=["multispace app runs/* --images val2014"],
    interrupted="the page is closed; nothing was written",
)
def app(options: AppOptions) -> Result:
    """Play with runs in a browser: captions side by side, latents set by hand."""
    from multispace.pipeline.app import app

    app(options, say=lambda line: click.echo(line, err=True))


@main.add(
    TuneRequest,
    partial=TrainOptions,
    without=LENGTH,
    groups=GROUPS,
    examples=[
        "multispace tune joint --cache coco --run tune/joint --trials 30 --budget 3000",
        "multispace tune base --cache coco --run tune/base --budget 3000 --dry-run",
        "multispace tune joint --run tune/joint --resume --trials 40",
    ],
    interrupted="finished trials are kept; continue with --resume",
)
def tune(request: TuneRequest, given: dict[str, Any]) -> Result:
    """Search for the options of a system; options that you give are fixed."""
    from multispace.pipeline.tuning.resolution import resolve_search

    search = resolve_search(given, request)
    if request.dry_run:
        return search
    from multispace.pipeline.tune import tune

    return tune(search, request.resume)


@main.add(
    ModelExportOptions,
    name="export",
    examples=[
        "multispace export runs/multispace --out models/flickr8k",
        "multispace export runs/multispace --out models/flickr8k --license cc-by-4.0 \\",
        "    --dataset flickr8k",
    ],
    interrupted=NOTHING_WRITTEN,
)
def export_model(options: ModelExportOptions) -> Result:
    """Write a trained model to a folder that can be passed on."""
    from multispace.pipeline.export import export

    return export(options)


@main.add(
    ModelPushOptions,
    name="push",
    examples=[
        "multispace push models/flickr8k s3://lab/models/flickr8k",
        "multispace push models/flickr8k hf://lab/flickr8k-multispace",
    ],
    interrupted=RUN_AGAIN,
)
def push_model(options: ModelPushOptions) -> Result:
    """Copy an exported model to a URL."""
    from multispace.pipeline.model_transfer import push_model

    return push_model(options)


@main.add(
    ModelPullOptions,
    name="pull",
    examples=["multispace pull hf://lab/flickr8k-multispace models/flickr8k"],
    interrupted=RUN_AGAIN,
)
def pull_model(options: ModelPullOptions) -> Result:
    """Copy an exported model from a URL, and check each file."""
    from multispace.pipeline.model_transfer import pull_model

    return pull_model(options)


@main.add(
    DoctorOptions,
    examples=["multispace doctor", "multispace doctor train2014 --sample 1000"],
    interrupted=NOTHING_WRITTEN,
)
def doctor(options: DoctorOptions) -> Result:
    """Check this machine, or each file of an image folder."""
    if options.images is not None:
        from multispace.data.survey import survey

        return survey(options.images, options.sample)
    from multispace.pipeline.doctor import examine

    return examine(options.cache)


@main.add(
    DemoOptions,
    examples=["multispace demo --out demo"],
    interrupted="remove the folder and run the demo again",
)
def demo(options: DemoOptions) -> Result:
    """Run all steps on generated images, offline, in minutes."""
    from multispace.pipeline.demo import demo

    return demo(options.out, options.seed, say=lambda line: click.echo(line, err=True))


cache = Commands("cache", help="Inspect, check, repair, merge and transfer feature caches.")
main.add_command(cache)


@cache.add(InfoOptions, examples=["multispace cache info coco"], interrupted=NOTHING_WRITTEN)
def info(options: InfoOptions) -> Result:
    """Show what a cache contains and how it was made."""
    from multispace.pipeline.cache_info import cache_info

    return cache_info(options.folder)


@cache.add(
    VerifyOptions,
    examples=["multispace cache verify coco", "multispace cache verify coco --quick"],
    interrupted=NOTHING_WRITTEN,
)
def verify(options: VerifyOptions) -> Result:
    """Check every byte of a cache; write nothing."""
    from multispace.pipeline.cache_maintenance import verify

    return verify(options.folder, options.quick)


@cache.add(
    RepairOptions,
    examples=["multispace cache repair coco --images train2014"],
    interrupted=RUN_AGAIN,
)
def repair(options: RepairOptions) -> Result:
    """Move damaged files out of a cache, and extract lost vectors again."""
    from multispace.pipeline.repair import repair

    return repair(
        options.folder,
        images=options.images,
        weights=options.weights,
        device=options.device,
        workers=options.workers,
    )


@cache.add(
    MergeOptions,
    examples=["multispace cache merge part1 part2 --into coco"],
    interrupted=RUN_AGAIN,
)
def merge(options: MergeOptions) -> Result:
    """Merge caches that have the same fingerprint."""
    from multispace.pipeline.cache_maintenance import merge

    return merge(options.sources, options.into, options.prefer)


@cache.add(DiffOptions, examples=["multispace cache diff coco other"], interrupted=NOTHING_WRITTEN)
def diff(options: DiffOptions) -> Result:
    """Compare two caches: how they were made, their contents, and their vectors."""
    from multispace.data.maintenance.differences import compare_caches

    return compare_caches(options.a, options.b)


@cache.add(
    PushOptions, examples=["multispace cache push coco s3://lab/coco"], interrupted=RUN_AGAIN
)
def push(options: PushOptions) -> Result:
    """Copy a cache to a URL; files that are already there are skipped."""
    from multispace.pipeline.cache_transfer import push_cache

    return push_cache(options.folder, options.url, options.threads)


@cache.add(
    PullOptions,
    examples=[
        "multispace cache pull s3://lab/coco coco",
        "multispace cache pull s3://lab/coco coco --only val",
    ],
    interrupted=RUN_AGAIN,
)
def pull(options: PullOptions) -> Result:
    """Copy a cache from a URL; files that are already there are skipped."""
    from multispace.pipeline.cache_transfer import pull_cache

    return pull_cache(options.url, options.folder, options.digest, options.only, options.threads)


@cache.add(
    ImportOptions,
    name="import",
    examples=[
        "multispace cache import v.npy --names keys.txt --into mine \\",
        "    --architecture resnet50 --weights imagenet",
        "multispace cache import att/ --mean-over-regions --into mine \\",
        "    --name-pattern 'val2014/{}.jpg' --architecture frcnn --weights vg",
    ],
    interrupted=RUN_AGAIN,
)
def import_(options: ImportOptions) -> Result:
    """Import vectors of other software from .npy, .npz or HDF5 files."""
    from multispace.pipeline.cache_maintenance import import_vectors

    return import_vectors(options)


@cache.add(
    ExportOptions,
    examples=["multispace cache export coco --out v.npy --names keys.txt --split val"],
    interrupted="run the same command again",
)
def export(options: ExportOptions) -> Result:
    """Write the vectors of a cache to a matrix file, and their keys to a text file."""
    from multispace.data.external_vectors.vector_export import export_features

    return export_features(options.folder, options.out, options.names, options.split)


if __name__ == "__main__":
    main()
