import pytest
from support.rows import make_cache

from multispace.data.batches import load_pairs
from multispace.pipeline.metrics.captions.quick_cider import quick_cider


def test_the_references_themselves_score_best(tmp_path):
    pairs = load_pairs(make_cache(tmp_path / "cache"), "train")
    texts = [pairs.captions.references()[pairs.captions.image_ids[p]][0] for p in pairs.images]
    best = quick_cider(pairs, texts)
    assert best > 1
    assert quick_cider(pairs, [text.upper() + "." for text in texts]) == pytest.approx(best)
    assert quick_cider(pairs, texts[1:] + texts[:1]) < 0.5 * best
