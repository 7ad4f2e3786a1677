import torch
from support.rows import append, put_text

from multispace.data.batches import load_pairs
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.pipeline.training.noun_clusters import noun_clusters


def test_the_commonest_nouns_with_their_plurals_are_clusters(tmp_path):
    captions = {
        "1.jpg": ("A dog runs.", "Two dogs run"),
        "2.jpg": ("a man and a dog", "a man sits"),
        "3.jpg": ("a cat sits", "nothing here"),
    }
    with write_cache(tmp_path / "cache") as writer:
        put_text(writer, {"train": captions})
        append(writer, list(captions))
    cache = Cache.open(tmp_path / "cache")
    vocabulary, pairs = cache.vocabulary(), load_pairs(cache, "train")
    found = noun_clusters(vocabulary, pairs, 2)
    assert found.dtype == torch.int64
    assert len(found) == len(vocabulary)
    named = dict(zip(vocabulary.words, found.tolist(), strict=True))
    assert [named[word] for word in ("dog", "dogs", "man", "cat", "sits", "<bos>")] == [
        0, 0, 1, -1, -1, -1,
    ]  # fmt: skip
    assert noun_clusters(vocabulary, pairs, 80).max() == 2
