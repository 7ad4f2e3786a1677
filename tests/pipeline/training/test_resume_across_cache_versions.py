"""Runs record digests of their cache; those of version 1 of the format stay valid."""

import json
from dataclasses import replace

import pytest
from support.rows import KEYS, SPEC, append, put_text
from support.version_1 import to_version_1

from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.errors import PipelineError
from multispace.pipeline.runs.run_folder import CONFIG
from multispace.pipeline.training.resume import check_same_data

SPELLED_OTHERWISE = replace(SPEC, decode="é", transform=replace(SPEC.transform, mean=(0.0, 1.0)))


@pytest.fixture
def caches(tmp_path):
    """Make the same cache in version 1, in version 2, and converted."""
    roots = [tmp_path / name for name in ("old", "new", "converted")]
    for root in roots:
        with write_cache(root) as writer:
            put_text(writer, {"train": {KEYS[0]: ("über Bäume",)}})
            append(writer, KEYS, spec=SPELLED_OTHERWISE)
    to_version_1(roots[0])
    to_version_1(roots[2])
    with write_cache(roots[2]) as writer:
        writer.save()
    return [Cache.open(root) for root in roots]


def record(run, **digests):
    config = {"options": {}, "system": {}, "feature_spec": SPELLED_OTHERWISE.to_json(), **digests}
    run.mkdir(exist_ok=True)
    (run / CONFIG).write_text(json.dumps(config))


def test_runs_of_both_versions_continue_with_caches_of_both(caches, tmp_path):
    run, vocabulary = tmp_path / "run", caches[1].vocabulary()
    assert [cache.manifest.version for cache in caches] == [1, 2, 2]
    recorded = [
        {"fingerprint": SPELLED_OTHERWISE.fingerprint_1, "vocabulary_digest": vocabulary.digest_1},
        {"fingerprint": SPELLED_OTHERWISE.fingerprint, "vocabulary_digest": vocabulary.digest},
    ]
    assert not recorded[0].items() & recorded[1].items()
    for digests in recorded:
        record(run, **digests)
        for cache in caches:
            check_same_data(run, cache, cache.vocabulary())
        for name in digests:
            record(run, **{**digests, name: "0" * 64})
            with pytest.raises(PipelineError, match=f"was begun with {name} 000000000000, "):
                check_same_data(run, caches[1], vocabulary)
