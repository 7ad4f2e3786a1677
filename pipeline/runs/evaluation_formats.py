"""What the files of an evaluation may contain: run folders also come from other people."""

from multispace.data.documents import (
    MAX_BYTES,
    Boolean,
    DocumentFormat,
    Either,
    Integer,
    Kind,
    ListOf,
    MapOf,
    Nullable,
    Number,
    Object,
    Text,
)
from multispace.errors import PipelineError
from multispace.pipeline.metrics.captions.bleu import BleuMetric
from multispace.pipeline.metrics.samples.diversity import COLUMNS, CORPUS_MBLEU
from multispace.pipeline.metrics.samples.diversity_curve import MEANS
from multispace.pipeline.metrics.samples.diversity_report import CIDER, SIBLINGS
from multispace.pipeline.runs.evaluation_folder import (
    ATTRIBUTES,
    CAPTIONS,
    COMPOSITION,
    CURVE,
    DIVERSITY,
    FACTORS,
    LATENTS,
    PER_IMAGE,
    RECORD,
    SAMPLE_SCORES,
    SAMPLES,
    SCORES,
    SIGNATURE,
)

CAPTION_COLUMNS = ("distinct_share", "novel_share", "words")  # of diversity.json
PER_IMAGE_BYTES = 1 << 28  # of a file with an entry per image
MAX_SCORE = 1e9  # of scores and of the counts that they are made of: their sums stay finite

NAME = Text(max_length=100)
COUNT = Integer(min=0)
NUMBER = Number(min=-MAX_SCORE, max=MAX_SCORE)
FRACTION = Nullable(NUMBER)
IMAGE_ID = Either((Integer(), Text(max_length=4096)))
HEX = Text(max_length=128, pattern="[0-9a-f]*")
ANY = Kind()

RECORD_KIND = Object(
    {
        "system": NAME,
        "split": NAME,
        "checkpoint": Text(choices=("best", "last")),
        "step": COUNT,
        "beam": Integer(min=1),
        "length_penalty": NUMBER,
        "samples": COUNT,
        "seed": Integer(),
        "metrics": ListOf(NAME, max_items=100),
        "pictures": Integer(min=1),
        "without_vector": COUNT,
        "pictures_digest": HEX,
        "references_digest": HEX,
        "vocabulary_digest": HEX,
        "fingerprint": HEX,
        "version": NAME,
    },
    optional={
        "single_caption": Nullable(NAME),
        "captions_from": NAME,
        "temperature": Number(min=0, max=MAX_SCORE),
        "top_p": Number(min=0, max=1),
        "latent_temperature": Number(min=0, max=MAX_SCORE),
        "guidance": Number(min=0, max=MAX_SCORE),
        "curve": ListOf(Number(min=0, max=MAX_SCORE), max_items=1000),
        "curve_of": NAME,
        "sample_meteor": Boolean(),
        "importance_samples": COUNT,
        "disentanglement": Boolean(),
        "files": MapOf(Text(pattern="[0-9a-f]{64}"), max_items=100),
    },
)

PER_IMAGE_KIND = ListOf(
    Object(
        {"image_id": IMAGE_ID},
        optional={
            "statistics": MapOf(ListOf(Number(min=0, max=MAX_SCORE), max_items=100), max_items=100)
        },
        others=NUMBER,
    ),
    min_items=1,
)

DIVERSITY_KIND = Object(
    {"captions": Object(dict.fromkeys(CAPTION_COLUMNS, NUMBER), others=ANY)},
    optional={
        "per_image": ListOf(
            Object({"image_id": IMAGE_ID, **dict.fromkeys(COLUMNS, NUMBER)}, others=ANY)
        )
    },
    others=ANY,
)

SUMMAND = Integer(min=0, max=int(MAX_SCORE))
STATISTICS = BleuMetric.statistics
SAMPLE_SCORES_KIND = ListOf(
    Object(
        {
            "image_id": IMAGE_ID,
            SIBLINGS: ListOf(
                ListOf(SUMMAND, min_items=STATISTICS, max_items=STATISTICS),
                min_items=2,
                max_items=10_000,
            ),
        },
        optional={CIDER: ListOf(NUMBER, min_items=2, max_items=10_000)},
    ),
    min_items=1,
)

CURVE_KIND = Object(
    {
        "n": Integer(min=2, max=10_000),
        "points": ListOf(
            Object(
                {
                    "temperature": Number(min=0, max=MAX_SCORE),
                    **dict.fromkeys((CORPUS_MBLEU, *MEANS), NUMBER),
                }
            ),
            min_items=1,
            max_items=1000,
        ),
        "per_image": ListOf(
            Object(
                {
                    "image_id": IMAGE_ID,
                    "values": ListOf(
                        ListOf(NUMBER, min_items=len(MEANS), max_items=len(MEANS)),
                        min_items=1,
                        max_items=1000,
                    ),
                }
            ),
            min_items=1,
        ),
    }
)

INFORMATION = Object(
    dict.fromkeys(("mutual_information", "aggregate_kl", "sum"), NUMBER), others=NUMBER
)
CONCEPT = Object(dict.fromkeys(("nmi", "nmi_by_chance", "explained"), NUMBER), others=NUMBER)
CONCEPTS = MapOf(CONCEPT, max_items=100)
CATEGORY = Object(
    {
        "category": COUNT,
        "count": COUNT,
        "share": NUMBER,
        "words": ListOf(Object({"word": Text(), "z": NUMBER, "count": COUNT}), max_items=1000),
        "examples": ListOf(Object({"image": Text(), "caption": Text()}), max_items=1000),
    }
)
MEANING = Object(
    {
        "assigned": NAME,
        "count": COUNT,
        "captions": COUNT,
        "variables": ListOf(
            Object(
                {
                    "size": Integer(min=1, max=1 << 20),
                    "in_use": COUNT,
                    "fraction_in_use": NUMBER,
                    "concepts": CONCEPTS,
                    "categories": ListOf(CATEGORY, max_items=1 << 20),
                }
            ),
            min_items=1,
            max_items=1 << 10,
        ),
        "sentence": Text(max_length=10_000),
    },
    optional={"together": Object({"in_use": COUNT, "concepts": CONCEPTS})},
)
COSTS = MapOf(Object({"nats": NUMBER, "cider": NUMBER}), max_items=10)
LATENTS_KIND = Object(
    {"verdict": Text(max_length=10_000)},
    optional={
        "z": Object(
            {
                "dimensions": COUNT,
                "kl": NUMBER,
                "kl_by_dimension": ListOf(NUMBER),
                "active_units": COUNT,
                "information": Object(
                    {**INFORMATION.required, "log_pictures": NUMBER}, others=NUMBER
                ),
            },
            others=ANY,
        ),
        "c": Object(
            {
                "sizes": ListOf(Integer(min=1), min_items=1),
                "kl": NUMBER,
                "usage_perplexity": ListOf(NUMBER, min_items=1),
                "information": ListOf(INFORMATION),
            },
            optional={"meaning": MEANING},
            others=ANY,
        ),
        "ablation": Object(
            {"captions": COUNT, "nll": NUMBER, "cider": NUMBER, "shuffled": COSTS, "prior": COSTS}
        ),
        "likelihood": Object({"samples": COUNT, "nll": NUMBER, "elbo": NUMBER}, others=NUMBER),
    },
)

TALLY = Object({"mentioned": COUNT, "precision": FRACTION, "recall": FRACTION}, others=FRACTION)
FACT_COUNTS = ListOf(Integer(min=0, max=10**6), min_items=4, max_items=4)
ATTRIBUTES_KIND = Object(
    {
        "against": NAME,
        "objects": Object(
            {**TALLY.required, "captions_with_hallucination": FRACTION}, others=FRACTION
        ),
        "attributes": MapOf(TALLY, max_items=100),
        "all": TALLY,
    },
    optional={
        "per_image": ListOf(
            Object({"image_id": IMAGE_ID, "counts": MapOf(FACT_COUNTS, max_items=100)})
        )
    },
    others=ANY,
)

RECALL = Object({"pictures": COUNT, "recall": FRACTION}, others=FRACTION)
COMPOSITION_KIND = Object(
    {
        "captions": NAME,
        "k": COUNT,
        "pairs": MapOf(
            Object(
                {"levels": MapOf(RECALL, max_items=100), "noun_named": FRACTION},
                optional={"recall_of_first": MapOf(FRACTION, max_items=100)},
            ),
            max_items=10_000,
        ),
        "mean_recall": MapOf(FRACTION, max_items=100),
        "mean_noun_named": FRACTION,
    },
    optional={"mean_recall_of_first": MapOf(FRACTION, max_items=100)},  # earlier ones have none
)

FACTORS_KIND = Object(
    {
        "pictures": COUNT,
        "factors": MapOf(
            Object({"values": COUNT, "kind": NAME, "majority": NUMBER}, others=NUMBER),
            max_items=1000,
        ),
    },
    optional={
        "z": Object(
            {
                "factor_vae": Object(
                    {"score": NUMBER, "learnt": COUNT, "judged": COUNT, "codes": COUNT}
                ),
                "importance": ANY,
            },
            others=NUMBER,
        )
    },
)

KINDS: dict[str, Kind] = {
    RECORD: RECORD_KIND,
    SCORES: Object({}, {SIGNATURE: Text(max_length=2000)}, others=NUMBER),
    PER_IMAGE: PER_IMAGE_KIND,
    DIVERSITY: DIVERSITY_KIND,
    SAMPLE_SCORES: SAMPLE_SCORES_KIND,
    CURVE: CURVE_KIND,
    CAPTIONS: ListOf(Object({"image_id": IMAGE_ID, "caption": Text()}, others=ANY)),
    SAMPLES: ListOf(
        Object({"image_id": IMAGE_ID, "captions": ListOf(Text(), max_items=10_000)}, others=ANY)
    ),
    LATENTS: LATENTS_KIND,
    ATTRIBUTES: ATTRIBUTES_KIND,
    COMPOSITION: COMPOSITION_KIND,
    FACTORS: FACTORS_KIND,
}

WITH_IMAGES = (PER_IMAGE, SAMPLES, DIVERSITY, SAMPLE_SCORES, CURVE)


def evaluation_format(name: str, hint: str) -> DocumentFormat:
    """Return the format of a file of an evaluation.

    :param hint: what to do about a file that does not fit
    """
    size = PER_IMAGE_BYTES if name in WITH_IMAGES else MAX_BYTES
    return DocumentFormat(KINDS[name], error=PipelineError, hint=hint, max_bytes=size, max_depth=12)
