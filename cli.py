"""The commands: each parses its options, calls one function of the pipeline, and prints.

Exit status: 0 done; 1 the work failed (one line on stderr; a traceback with ``--debug``);
2 wrong usage; 3 done, but some inputs were skipped (each named); 130 interrupted.
"""

import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

import click
import yaml

from multispace.fields import OPTION, flag, shown_value, value_type
from multispace.model.options import SYSTEMS
from multispace.pipeline.console.main_process import only_main_process_prints
from multispace.pipeline.training.train_options import (
    GROUPS,
    PRESETS,
    TrainOptions,
    resolve,
)

SKIPPED = 3
NAMED = 10  # lines of a long list that are printed; JSON has them all

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


class Command(click.Command):
    """A command whose expected failures are one line and an exit status."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        debug = click.Option(["--debug"], is_flag=True, help="Show the traceback of a failure.")
        self.params.append(debug)

    def invoke(self, context: click.Context) -> Any:
        """Run the command and turn its failures into exit statuses."""
        from multispace.errors import Error, OptionError

        debug = context.params.pop("debug")
        try:
            return super().invoke(context)
        except OptionError as error:
            _fail(error, 2, debug)
        except BrokenPipeError:
            raise  # whoever read the output has seen enough; click ends quietly
        except (Error, OSError) as error:
            _fail(error, 1, debug)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command goes on from what is done", err=True)
            sys.exit(130)


def _fail(error: Exception, status: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror}", err=True)
    else:
        click.echo(f"error: {error}", err=True)
    sys.exit(status)


class Commands(click.Group):
    """All commands; of several processes that `torchrun` starts, one speaks."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command."""
        with only_main_process_prints():
            return super().main(*arguments, **options)


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="multispace-captioning")
def main() -> None:
    """Captions from joint continuous and discrete latent spaces.

    preprocess a captioned image collection once, train systems from the cache, evaluate them.
    """


main.command_class = Command

as_json = click.option("--json", "as_json", is_flag=True, help="Print only JSON on stdout.")
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda ...")
threads = click.option(
    "--threads", type=click.IntRange(1), default=8, show_default=True, help="Files at a time."
)
metrics = click.option(
    "--metrics",
    default="bleu,meteor,rouge,cider",
    show_default=True,
    callback=lambda _context, _option, value: tuple(value.split(",")),
    help="Which to compute, separated by commas.",
)


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--images", default=2000, show_default=True, help="Pictures in all.")
@click.option("--seed", default=0, show_default=True, help="Of the generator.")
@click.option(
    "--hold-out", multiple=True, metavar="TEXT", help='Kept out of training: "red circle".'
)
@as_json
def shapes(as_json: bool, **options: Any) -> None:
    """Generate an image collection with known factors, in COCO form, under OUT."""
    from multispace.data.shapes import generate_shapes

    made = generate_shapes(**options)
    if as_json:
        _print_json(made.to_json())
    else:
        click.echo(made.render())


@main.command()
@click.option("--annotations", type=FILE, required=True, help="COCO or Karpathy JSON, Flickr token "
              "file, or Kaggle captions.txt; told apart by content.")  # fmt: skip
@click.option("--images", type=FOLDER, help="The folder of the images.")
@click.option("--cache", type=FOLDER, required=True, help="The feature cache to make or extend.")
@click.option("--split", help="Name of the split in the file, or the only one wanted.")
@click.option("--backbone", help="resnet18, 34, 50, 101 or 152; several, separated by commas, make "
              "a cache each, CACHE/NAME, and decode once.  [default: resnet50]")  # fmt: skip
@click.option("--weights", help="imagenet, a torchvision name, random, FILE, or "
              "package:NAME/FILE.  [default: imagenet]")  # fmt: skip
@click.option("--resize", type=int, help="Shorter side in pixels.  [default: the weights' own]")
@click.option("--crop", type=int, help="Side of the middle square.  [default: the weights' own]")
@click.option("--pool", help="average, or grid: a vector for each place.  [default: average]")
@click.option("--flip/--no-flip", default=None, help="Mean with the mirror image's vector; twice "
              "the work.  [default: no]")  # fmt: skip
@click.option("--tokenizer", help="whitespace, whitespace-lower, treebank.  [default: whitespace]")
@click.option("--min-count", type=int, help="Occurrences that make a word.  [default: 10]")
@click.option("--shard-size", default=4096, show_default=True, help="Pictures a shard.")
@click.option("--dtype", type=click.Choice(["float16", "float32"]), default="float16",
              show_default=True, help="Of the stored vectors.")  # fmt: skip
@click.option("--precision", default="auto", show_default=True, help="Of the network.")
@device
@click.option("--workers", type=int, help="Lanes that decode and compute.  [default: one a core]  "
              "With --ray: cores a task.  [default: 1]")  # fmt: skip
@click.option("--ray", metavar="auto|HOST:PORT", help="Extract on this Ray cluster, a task a "
              "shard. Every node must see the images at the same path.")  # fmt: skip
@click.option("--captions-only", is_flag=True, help="Vocabulary and captions, no features.")
@click.option("--hold-out", multiple=True, metavar="TEXT", help='Pictures whose captions name this '
              'pair leave training: "black dog", "ride woman".')  # fmt: skip
@click.option("--hold-out-split", type=FILE, help="A published split of MS-COCO, which says what "
              "to hold out.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Estimate time and size from a sample, and write "
              "nothing.")  # fmt: skip
@as_json
def preprocess(as_json: bool, dry_run: bool, **options: Any) -> None:
    """Turn a captioned image collection into a feature cache."""
    from multispace.pipeline.preprocess import PreprocessOptions, preprocess

    if dry_run:
        _dry_run(PreprocessOptions(**options), as_json)
        return
    summary = preprocess(PreprocessOptions(**options))
    if as_json:
        _print_json(summary.to_json())
    else:
        click.echo(summary.render())
        for note in summary.notes:
            click.echo(f"note: {note}", err=True)
    if summary.skipped:
        for line in summary.messages():
            click.echo(line, err=True)
        sys.exit(SKIPPED)


def _dry_run(options: Any, as_json: bool) -> None:
    from multispace.pipeline.preparation.estimate import estimate

    expected = estimate(options)
    if as_json:
        _print_json(expected.to_json())
    else:
        click.echo(expected.render())


def _train_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each field of ``TrainOptions``, with its help and default."""
    for option in reversed(fields(TrainOptions)):
        declared = option.metadata[OPTION]
        if declared.group:
            choices, default = declared.choices, option.default
            kind = value_type(option)
            off = f"/--no-{option.name.replace('_', '-')}" if option.type is bool else ""
            said = "" if default is None or off else f"  [default: {shown_value(default)}]"
            function = click.option(
                flag(option.name) + off,
                type=click.Choice(choices) if choices else kind if kind in (int, float) else None,
                default=None,
                help=declared.help + said,
            )(function)
    return function


class TrainCommand(Command):
    """`train`, whose many options are listed under the headings of their groups."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options that have no group, then those of each."""
        headings = {f.name: f.metadata[OPTION].group or None for f in fields(TrainOptions)}
        options = [p for p in self.get_params(context) if isinstance(p, click.Option)]
        for group in (None, *GROUPS):
            shown = [p for p in options if headings.get(str(p.name)) == group]
            with formatter.section(group or "Options"):
                formatter.write_dl(filter(None, (p.get_help_record(context) for p in shown)))


@main.command(cls=TrainCommand)
@click.argument("system", type=click.Choice(SYSTEMS))
@click.option("--cache", metavar="DIR|URL", help="The feature cache.  [required without --config]")
@click.option("--run", type=FOLDER, required=True, help="The run folder to make.")
@click.option("--config", type=FILE, help="Options from YAML, or from a run's config.json.")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="A named set of options, under those of --config and of the command line.",
)
@click.option("--dry-run", is_flag=True, help="Print the resolved options and sizes; do nothing.")
@click.option("--resume", is_flag=True, help="Go on with the run where it was left.")
@_train_options
@as_json
def train(
    config: Path | None,
    preset: str | None,
    dry_run: bool,
    resume: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Fit SYSTEM to a cache."""
    from multispace.pipeline.train import train
    from multispace.pipeline.training.plan import plan

    given = {name: value for name, value in options.items() if value is not None}
    resolved = resolve(given, config, preset=preset, resume=resume)
    if dry_run:
        _print_plan(plan(resolved), as_json)
        return
    trained = train(resolved, resume)
    if as_json:
        _print_json(asdict(trained))
    else:
        best = "-" if trained.best is None else f"{trained.best:.3f}"
        _print_table(
            ["system", "parameters", "steps", "best step", trained.selected_by, "tokens/s", "s"],
            [[trained.system, trained.parameters, trained.steps, trained.best_step, best,
              f"{trained.tokens_per_second:.0f}", f"{trained.seconds:.0f}"]],
        )  # fmt: skip
    if trained.stopped:
        click.echo(
            f"stopped by {trained.stopped} after step {trained.steps}; go on with: "
            f"train {trained.system} --run {trained.run} --resume",
            err=True,
        )
        sys.exit(128 + signal.Signals[trained.stopped])


def _print_plan(planned: Any, as_json: bool) -> None:
    held = asdict(planned)
    if as_json:
        _print_json(held)
        return
    options, warnings = held.pop("options"), held.pop("warnings")
    options = {n: list(v) if isinstance(v, tuple) else v for n, v in options.items()}
    click.echo(yaml.safe_dump(options, sort_keys=False), nl=False)  # --config reads it back
    for name, value in held.items():
        click.echo(f"# {name}: {value:,}")
    for line in warnings:
        click.echo(f"note: {line}", err=True)


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--cache", metavar="DIR|URL", required=True, help="The feature cache.")
@click.option("--split", default="test", show_default=True, help="Which images.")
@click.option("--beam", default=5, show_default=True, help="Width of the search; 1 is greedy.")
@click.option("--length-penalty", default=0.0, show_default=True,
              help="Divide log probabilities by length to this power.")  # fmt: skip
@click.option("--samples", default=0, show_default=True, help="Also this many captions an image, "
              "each from a draw of the latent, and how they differ.")  # fmt: skip
@click.option("--sample-meteor", is_flag=True, help="METEOR of the samples too, which is slow.")
@click.option("--importance-samples", default=5, show_default=True, help="Draws a caption of the "
              "importance-weighted likelihood; 0 leaves it out.")  # fmt: skip
@metrics
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best",
              show_default=True, help="Which one of the run.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of all draws.")
@device
@as_json
def evaluate(as_json: bool, **options: Any) -> None:
    """Caption a split with RUN, score the captions, and say what the latents carry."""
    from multispace.pipeline.evaluate import EvaluateOptions, evaluate
    from multispace.pipeline.metrics.content.attributes import attribute_table
    from multispace.pipeline.metrics.content.combinations import composition_rows
    from multispace.pipeline.metrics.latents.factors import factor_lines, factor_table
    from multispace.pipeline.metrics.latents.latent_report import latent_lines, latent_table

    result = evaluate(EvaluateOptions(**options)).to_json()
    if as_json:
        _print_json(result)
        return
    click.echo(
        f"{result['system']} ({result['checkpoint']} checkpoint, step {result['step']}) on "
        f"{result['pictures']} images of {result['split']!r}, beam {result['beam']}: "
        f"{result['distinct_captions']} distinct captions"
    )
    _print_scores({result["system"]: result["scores"]}, result["notes"])
    _print_diversity(result["diversity"])
    _print_table(*attribute_table(result["attributes"]))
    if (composition := result["composition"]) is not None:
        click.echo(f"held-out pairs, recall over {composition['k']} {composition['captions']}:")
        _print_table(*composition_rows(composition))
    _print_report(latent_table, latent_lines, result["latents"])
    if result["disentanglement"]:
        _print_report(factor_table, factor_lines, result["disentanglement"])
    click.echo(f"written to {result['folder']}")
    if result["without_vector"]:
        click.echo(f"{result['without_vector']} images without a vector left out", err=True)


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--cache", metavar="DIR|URL", required=True, help="The feature cache.")
@click.option("--split", default="test", show_default=True, help="Which images.")
@click.option("--key", "keys", multiple=True, help="An image to look at; may be repeated.  "
              "[default: the first ones]")  # fmt: skip
@click.option("--pictures", "images", default=3, show_default=True, help="How many, without --key.")
@click.option("--dims", default=5, show_default=True, help="Dimensions of z, by KL, and categories "
              "of each variable of c, by use.")  # fmt: skip
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best",
              show_default=True, help="Which one of the run.")  # fmt: skip
@device
@as_json
def explore(as_json: bool, **options: Any) -> None:
    """Show how captions change when single latents of RUN are moved."""
    from multispace.pipeline.explore import ExploreOptions, explore

    found = explore(ExploreOptions(**options))
    if as_json:
        _print_json(found.to_json())
        return
    for line in found.lines():
        click.echo(line)
    click.echo(f"written to {found.folder}")


@main.command()
@click.argument("results", type=FILE)
@click.option("--annotations", type=FILE, required=True, help="With the reference captions.")
@metrics
@as_json
def score(results: Path, annotations: Path, metrics: tuple[str, ...], as_json: bool) -> None:
    """Score RESULTS.json, captions in COCO results format, ours or another's."""
    from multispace.pipeline.score import score_results

    scores = score_results(results, annotations, metrics)
    if as_json:
        _print_json(scores.to_json())
    else:
        click.echo(scores.render())
        for note in scores.notes:
            click.echo(f"note: {note}", err=True)
    for line in scores.messages():
        click.echo(line, err=True)
    sys.exit(scores.exit_status)


@main.command()
@click.argument("runs", type=FOLDER, nargs=-1, required=True)
@click.option("--split", default="test", show_default=True, help="Which images.")
@click.option("--checkpoint", type=click.Choice(["best", "last", "both"]), default="best",
              show_default=True, help="Which one of the runs, or both side by side.")  # fmt: skip
@click.option("--resamples", default=10_000, show_default=True, help="Of images and seeds.")
@click.option("--seed", default=0, show_default=True, help="Of the resamples.")
@as_json
@click.option("--markdown", "form", flag_value="markdown", help="Print tables in Markdown.")
@click.option("--latex", "form", flag_value="latex", help="Print tables in LaTeX.")
def compare(as_json: bool, form: str | None, **options: Any) -> None:
    """Compare evaluated RUNS over their seeds, with 95 % intervals of all differences."""
    from multispace.errors import OptionError
    from multispace.pipeline.compare import CompareOptions, compare

    if as_json and form:
        raise OptionError(f"--json and --{form}: choose one")
    result = compare(CompareOptions(**options))
    if as_json:
        _print_json(result.to_json())
        return
    for table in result.tables():
        if form:
            click.echo((table.markdown() if form == "markdown" else table.latex()) + "\n")
        else:
            _print_table([table.title, *table.head[1:]], table.rows)
    for note in result.notes:
        click.echo(f"note: {note}", err=True)


@main.command()
@click.argument("runs", type=FOLDER, nargs=-1, required=True)
@click.option("--out", type=FILE, default=Path("report.html"), show_default=True,
              help="The page to write.")  # fmt: skip
@click.option("--split", default="test", show_default=True, help="Which images.")
@click.option("--checkpoint", type=click.Choice(["best", "last", "both"]), default="best",
              show_default=True, help="Which one of the runs, or both side by side.")  # fmt: skip
@click.option("--cache", metavar="DIR|URL", help="The feature cache, to show references.")
@click.option("--images", type=FOLDER, help="The images, to show some; needs --cache.")
@click.option("--pictures", "image_count", default=8, show_default=True, help="How many examples.")
@click.option("--resamples", default=10_000, show_default=True, help="Of images and seeds.")
@click.option("--seed", default=0, show_default=True, help="Of the resamples.")
@as_json
def report(as_json: bool, **options: Any) -> None:
    """Write one HTML page over evaluated RUNS: scores, latents, learning curves, examples."""
    from multispace.pipeline.report import ReportOptions, report

    made = report(ReportOptions(**options))
    if as_json:
        _print_json(asdict(made))
    else:
        click.echo(f"written to {made.out}, {made.bytes / 1e3:.0f} kB: {', '.join(made.included)}")
        for line in made.left_out:
            click.echo(f"left out: {line}", err=True)
    for line in made.skipped:
        click.echo(f"skipped: {line}", err=True)
    if made.skipped:
        sys.exit(SKIPPED)


@main.command()
@click.argument("run", type=FOLDER)
@click.argument("images", type=FILE, nargs=-1, required=True)
@click.option("--weights", help="Where the backbone's weights are now, if elsewhere.")
@click.option("--beam", default=5, show_default=True, help="Width of the search; 1 is greedy.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best",
              show_default=True, help="Which one of the run.")  # fmt: skip
@device
@as_json
def caption(run: Path, images: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Caption image files with RUN."""
    from multispace.pipeline.caption import caption

    done = caption(run, images, **options)
    if as_json:
        _print_json(done.captions)
    else:
        for file, text in done.captions.items():
            click.echo(f"{file}\t{text}")
    for reason in done.failures.values():
        click.echo(f"skipped: {reason}", err=True)
    if done.failures:
        sys.exit(SKIPPED if done.captions else 1)


@main.group()
def cache() -> None:
    """Look at, check, mend, unite and move feature caches."""


cache.command_class = Command


@cache.command()
@click.argument("folder", type=FOLDER)
@as_json
def info(folder: Path, as_json: bool) -> None:
    """Print what the cache in FOLDER holds and how it was made."""
    from multispace.pipeline.cache_info import cache_info

    held = cache_info(folder).to_json()
    if as_json:
        _print_json(held)
        return
    click.echo(f"{held['rows']} vectors in {held['shards']} shards, {held['bytes'] / 1e6:.1f} MB, "
               f"{len(held['failures'])} images failed")  # fmt: skip
    for name, value in (held["spec"] or {}).items():
        click.echo(f"  {name:16}{value}")
    click.echo(f"  {'fingerprint':16}{held['fingerprint']}")
    for name, value in (held["vocabulary"] or {}).items():
        click.echo(f"vocabulary {name}: {value}")
    _print_table(
        ["split", "images", "captions", "tokens", "unknown"],
        [[name, s["pictures"], s["captions"], s["tokens"], f"{s['unknown']:.2%}"]
         for name, s in held["splits"].items()],
    )  # fmt: skip
    if held["held_out"]:
        click.echo(f"held out of training: {', '.join(held['held_out']['pairs'])}")
    _print_first([f"failed: {key}: {reason}" for key, reason in held["failures"].items()])


@cache.command()
@click.argument("folder", type=FOLDER)
@click.option("--quick", is_flag=True, help="Only the manifest and the sizes of the files.")
@as_json
def verify(folder: Path, quick: bool, as_json: bool) -> None:
    """Check every byte of the cache in FOLDER, and write nothing."""
    from multispace.data.maintenance.verify import verify_cache

    found = verify_cache(folder, quick=quick)
    if as_json:
        _print_json(found.to_json())
    else:
        for fault in found.faults:
            click.echo(f"fault: {fault}")
        for note in found.notes:
            click.echo(f"note: {note}", err=True)
        how = "looked at" if quick else "checked"
        click.echo(f"{found.files} files, {found.rows} vectors, {found.bytes / 1e6:.1f} MB {how}: "
                   f"{len(found.faults)} faults")  # fmt: skip
    if found.faults:
        sys.exit(1)


@cache.command()
@click.argument("folder", type=FOLDER)
@click.option("--images", type=FOLDER, help="The images, to extract lost vectors again.")
@click.option("--weights", help="Where the weights are now, if not where the cache says.")
@device
@click.option("--workers", type=int, help="Decoding threads.  [default: one a core]")
@as_json
def repair(folder: Path, as_json: bool, **options: Any) -> None:
    """Mend the cache in FOLDER: what is bad goes, and is made again from --images."""
    from multispace.pipeline.repair import repair

    repaired = repair(folder, **options)
    if as_json:
        _print_json(repaired.to_json())
    else:
        for line in repaired.done or ("nothing to mend",):
            click.echo(line)
        for line in repaired.left:
            click.echo(f"left: {line}", err=True)
    if repaired.left:
        sys.exit(SKIPPED)


@cache.command()
@click.argument("a", type=FOLDER)
@click.argument("b", type=FOLDER)
@as_json
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Compare the caches in A and B: how they were made, what they hold, their vectors."""
    from multispace.data.maintenance.differences import compare_caches

    found = compare_caches(a, b)
    if as_json:
        _print_json(found.to_json())
        return
    for title, rows in (("meaning", found.meaning), ("detail", found.detail),
                        ("", (found.vocabulary,)), ("split", found.splits)):  # fmt: skip
        for row in rows:
            values = row.a if row.same else f"{row.a} | {row.b}"
            click.echo(f"{' ' if row.same else '*'} {title:8}{row.name:26}{values}")
    click.echo(f"{found.both} images in both, {found.only_a} only in A, {found.only_b} only in B")
    if found.cosine is not None:
        click.echo(f"cosine: least {found.cosine.minimum:.6f}, median {found.cosine.median:.6f}")
        for key, value in found.cosine.worst:
            click.echo(f"  {value:.6f}  {key}")
    _print_first([f"another image: {key}" for key in found.changed])
    for note in found.notes:
        click.echo(f"note: {note}", err=True)


@cache.command()
@click.argument("sources", type=FOLDER, nargs=-1, required=True)
@click.option("--into", type=FOLDER, required=True, help="The cache to make or extend.")
@click.option("--prefer", type=FOLDER, help="The cache that wins where rows differ.")
@as_json
def merge(sources: tuple[Path, ...], into: Path, prefer: Path | None, as_json: bool) -> None:
    """Unite the caches SOURCES, of one fingerprint, in another."""
    from multispace.data.maintenance.merge import ConflictError, merge_caches

    try:
        done = merge_caches(sources, into, prefer)
    except ConflictError as error:
        if as_json:
            _print_json(error.to_json())
        raise
    if as_json:
        _print_json(done.to_json())
        return
    click.echo(f"{done.rows} vectors in {done.into}, {done.added} of them new; {done.identical} "
               f"met again, {done.rounded} equal but for rounding")  # fmt: skip
    click.echo(f"shards: {done.linked} linked, {done.copied} copied, {done.rewritten} rewritten")
    _print_first(
        [f"settled: {c.key}: {c.first} before {c.second} ({c.reason})" for c in done.settled]
    )
    for entry in done.left_out:
        click.echo(f"left out: split {entry.split!r} of {entry.cache}: {entry.reason}", err=True)


@cache.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--into", type=FOLDER, required=True, help="The cache to make or extend.")
@click.option("--architecture", required=True, help="The network, as you state it.")
@click.option("--weights", required=True, help="A name for its weights, as you state it.")
@click.option("--weights-sha256", help="Digest of the weights, if known.")
@click.option("--pooling", default="unknown", show_default=True, help="As you state it.")
@click.option("--names", type=FILE, help="Keys of a matrix, one a line.")
@click.option("--extension", default="", help='Appended to each name: ".jpg".')
@click.option("--images", type=FOLDER, help="The images, to record their digests.")
@click.option("--dtype", type=click.Choice(["float16", "float32"]), default="float32",
              show_default=True, help="Of the stored vectors.")  # fmt: skip
@click.option("--shard-size", default=4096, show_default=True, help="Pictures a shard.")
@as_json
def import_(as_json: bool, **options: Any) -> None:
    """Take vectors from SOURCE: a folder of .npy files, a matrix (.npy, .npz), or HDF5."""
    from multispace.data.maintenance.vector_import import ImportOptions, import_features

    done = import_features(ImportOptions(**options))
    if as_json:
        _print_json(done.to_json())
        return
    click.echo(f"{done.added} vectors of {done.dimension} numbers ({done.dtype}) added to "
               f"{done.into}, {done.already} were there already")  # fmt: skip
    click.echo(f"{done.origin}; fingerprint {done.fingerprint}")


@cache.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", type=FILE, required=True, help="The matrix to write, .npy.")
@click.option("--names", type=FILE, required=True, help="The keys to write, one a line.")
@click.option("--split", help="Only the images of this split, in its order.")
@as_json
def export(folder: Path, as_json: bool, **options: Any) -> None:
    """Write the vectors of the cache in FOLDER as one matrix and a file of keys."""
    from multispace.data.maintenance.vector_export import export_features

    done = export_features(folder, **options)
    if as_json:
        _print_json(done.to_json())
        return
    click.echo(f"{done.rows} x {done.dimension} {done.dtype} in {done.out}, keys in {done.names}")


@cache.command()
@click.argument("folder", type=FOLDER)
@click.argument("url")
@threads
@as_json
def push(folder: Path, url: str, threads: int, as_json: bool) -> None:
    """Send the cache in FOLDER to URL: a path, s3://, gs:// ..."""
    from multispace.pipeline.transfer import push_cache

    _print_transferred(push_cache(folder, url, threads), as_json)


@cache.command()
@click.argument("url")
@click.argument("folder", type=FOLDER)
@click.option("--digest", help="sha256:HEX of the cache.json that is expected.")
@click.option("--only", metavar="SPLIT|FILE", help="Only the shards with the images of a split, "
              "or of a file of keys, one a line.")  # fmt: skip
@threads
@as_json
def pull(url: str, folder: Path, as_json: bool, **options: Any) -> None:
    """Fetch the cache at URL into FOLDER; what is whole there stays."""
    from multispace.pipeline.transfer import pull_cache

    _print_transferred(pull_cache(url, folder, **options), as_json)


def _print_transferred(done: Any, as_json: bool) -> None:
    if as_json:
        _print_json(asdict(done))
        return
    click.echo(f"{len(done.sent)} files, {done.bytes / 1e6:.1f} MB; {done.present} already there")
    click.echo(f"the source's digest: sha256:{done.digest}")
    if not done.whole:
        click.echo("not the same whole: the folder has a manifest of its own")


@main.command()
@click.argument("images", type=FOLDER, required=False)
@click.option("--cache", type=FOLDER, default=Path("."), show_default=True,
              help="Where a cache is to be made.")  # fmt: skip
@click.option("--sample", type=click.IntRange(1), help="Decode so many of IMAGES, and read only "
              "the headers of the others.  [default: decode all]")  # fmt: skip
@as_json
def doctor(images: Path | None, cache: Path, sample: int | None, as_json: bool) -> None:
    """Say what is here and what will not work, or with IMAGES what would become of each."""
    from multispace.data.survey import survey
    from multispace.pipeline.doctor import examine

    if images is None:
        examination = examine(cache)
        if as_json:
            _print_json(examination.to_json())
        else:
            click.echo(examination.render())
        sys.exit(examination.exit_status)
    found = survey(images, sample)
    if as_json:
        _print_json(found.to_json())
    else:
        click.echo(found.render())
    sys.exit(found.exit_status)


@main.command()
@click.option("--out", type=FOLDER, required=True, help="The folder to make.")
@click.option("--seed", default=0, show_default=True, help="Of everything.")
@as_json
def demo(out: Path, seed: int, as_json: bool) -> None:
    """Run all of it on generated images: offline, in minutes."""
    from multispace.pipeline.demo import demo

    result = demo(out, seed, say=lambda line: click.echo(line, err=True))
    if as_json:
        _print_json(result.to_json())
        return
    _print_scores(result.scores, ())
    _print_table(
        ["system", "colour right", "shape right", "distinct captions"],
        [[name, f"{a['colour']:.1%}", f"{a['shape']:.1%}", a["distinct"]]
         for name, a in result.accuracy.items()],
    )  # fmt: skip
    for file, captions in result.examples.items():
        click.echo(file)
        for name, text in captions.items():
            click.echo(f"  {name:12}{text}")
    click.echo(f"all of it is in {out}")


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def _print_first(
    lines: Sequence[str], rest: str = "... and {} more: --json lists them all", err: bool = False
) -> None:
    """Print the first lines of a list, and how many are not shown."""
    for line in lines[:NAMED]:
        click.echo(line, err=err)
    if len(lines) > NAMED:
        click.echo(rest.replace("{}", str(len(lines) - NAMED), 1), err=err)


def _print_scores(rows: Mapping[str, Mapping[str, float]], notes: Iterable[str]) -> None:
    names = list(dict.fromkeys(name for scores in rows.values() for name in scores))
    _print_table(
        ["", *names],
        [[system, *(f"{scores[name]:.3f}" for name in names)] for system, scores in rows.items()],
    )
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _print_diversity(found: Mapping[str, Any]) -> None:
    """Print tables that keep apart what a system chose and what an oracle did."""
    single = found["captions"]
    click.echo(f"{single['novel_share']:.1%} of the captions are novel, {single['words']} words "
               "in use")  # fmt: skip
    if "samples" not in found:
        return
    samples = dict(found["samples"])
    count = samples.pop("n")
    _print_table(
        [f"{count} samples an image", *samples],
        [["mean", *(f"{v:.3f}" if isinstance(v, float) else v for v in samples.values())]],
    )
    if found["consensus"]:
        _print_scores({"best (oracle)": found["oracle"]["best"], "mean": found["oracle"]["mean"]},
                      ())  # fmt: skip
        _print_scores({"consensus": found["consensus"]}, ())
    for note in found["notes"]:
        click.echo(f"note: {note}", err=True)


def _print_report(
    table: Callable[[Any], tuple[list[str], list[list[str]]]],
    lines: Callable[[Any], list[str]],
    report: Any,
) -> None:
    """Print a report's table, if it has rows, and the lines below it."""
    head, rows = table(report)
    if rows:
        _print_table(head, rows)
    for line in lines(report):
        click.echo(line)


def _print_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print columns, the first to the left, the others to the right."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join([first.strip().ljust(widths[0]), *rest]).rstrip())


if __name__ == "__main__":
    main()
