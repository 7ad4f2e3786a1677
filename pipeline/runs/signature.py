"""The signature of scores: one line to paste below a table, as sacreBLEU has it (Post 2018).

A signature names what a score depends on, as ``name:value`` joined by ``|``. Scores whose
signatures are equal up to the seeds and the step can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from multispace.pipeline.runs.evaluation_folder import Record
from multispace.version import SOFTWARE, package_version

TOKENIZER = "ptb-lower-nopunct"  # Stanford CoreNLP 3.4.1, as pycocoevalcap runs it
DIGITS = 12  # of a SHA-256
_APART = str.maketrans({"|": "_", ":": "_", "\n": " "})  # what would end a value


@dataclass(frozen=True)
class Signature:
    """What scores depend on, by name, in the order of the line."""

    fields: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "|".join(f"{name}:{value.translate(_APART)}" for name, value in self.fields)

    @classmethod
    def joined(cls, signatures: Sequence["Signature"]) -> "Signature":
        """Return the signature of scores that are averaged: different values are joined by ``+``.

        :param signatures: one or more, of the same names
        """
        columns = zip(*(signature.fields for signature in signatures), strict=True)
        return cls(
            tuple(
                (column[0][0], "+".join(dict.fromkeys(value for _, value in column)))
                for column in columns
            )
        )


def evaluation_signature(record: Record, run_seed: int | None) -> Signature:
    """Return the signature of the scores of an evaluation.

    :param run_seed: the seed of the training; None where the run does not say
    """
    drawn = f"{record.samples}"
    if record.samples or record.captions_from == "consensus":
        drawn += f",temperature={record.temperature:g},top-p={record.top_p:g}"
        drawn += f",latent-temperature={record.latent_temperature:g}"
        drawn += f",guidance={record.guidance:g}" if record.guidance != 1 else ""
    return Signature(
        (
            ("software", SOFTWARE),
            ("version", record.version),
            ("metrics", "+".join(record.metrics)),
            ("tok", TOKENIZER),
            ("split", record.split),
            ("images", str(record.images)),
            ("refs", record.references_digest[:DIGITS]),
            ("system", record.system),
            ("caption", record.captions_from),
            ("beam", str(record.beam)),
            ("length-penalty", f"{record.length_penalty:g}"),
            ("samples", drawn),
            ("seed", str(record.seed)),
            ("run-seed", "unknown" if run_seed is None else str(run_seed)),
            ("checkpoint", record.checkpoint),
            ("step", str(record.step)),
            ("features", record.fingerprint[:DIGITS]),
        )
    )


def results_signature(metrics: Sequence[str], images: int, references_digest: str) -> Signature:
    """Return the signature of the scores of captions of unknown origin.

    :param metrics: names of metrics, as ``--metrics`` has them
    :param images: how many were scored
    :param references_digest: of :func:`digest_references`
    """
    return Signature(
        (
            ("software", SOFTWARE),
            ("version", package_version()),
            ("metrics", "+".join(metrics)),
            ("tok", TOKENIZER),
            ("images", str(images)),
            ("refs", references_digest[:DIGITS]),
        )
    )
