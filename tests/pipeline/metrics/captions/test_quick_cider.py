import pytest
from pycocoevalcap.cider.cider import Cider
from support.rows import make_cache

from multispace.data.batches import load_pairs
from multispace.pipeline.metrics.captions.quick_cider import plain_tokens, quick_cider


def test_the_references_themselves_score_best(tmp_path):
    pairs = load_pairs(make_cache(tmp_path / "cache"), "train")
    texts = [pairs.captions.references()[pairs.captions.image_ids[p]][0] for p in pairs.images]
    best, upper, other = quick_cider(
        pairs, texts, [text.upper() + "." for text in texts], texts[1:] + texts[:1]
    )
    assert best > 1
    assert upper == pytest.approx(best)
    assert other < 0.5 * best


def test_scores_are_those_of_pycocoevalcap(tmp_path):
    pairs = load_pairs(make_cache(tmp_path / "cache"), "train")
    references = pairs.captions.references()
    ids = [pairs.captions.image_ids[image] for image in pairs.images]
    known = {i: [plain_tokens(text) for text in references[i]] for i in ids}
    sets = [[references[i][-1] for i in ids], [references[i][0] for i in reversed(ids)]]
    for found, texts in zip(quick_cider(pairs, *sets), sets, strict=True):
        candidates = {i: [plain_tokens(text)] for i, text in zip(ids, texts, strict=True)}
        assert found == pytest.approx(Cider().compute_score(known, candidates)[0], abs=1e-9)
