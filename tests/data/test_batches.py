import numpy as np
import pytest
import torch
from support.rows import CAPTIONS, KEYS, SPEC, append, make_cache, put_text, vectors
from torch.nn.utils.rnn import pack_padded_sequence

from multispace.data.batches import BUCKET, feature_moments, load_pairs
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.captions.vocabulary import BOS, EOS, PAD
from multispace.errors import CaptionsError, MissingFeatureError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def pairs(cache):
    return load_pairs(cache, "train")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return 1200 captions of 1 to 20 words, two an image."""
    random = np.random.default_rng(0)
    words = ["a", "red", "blue", "bus", "road", "long", "on", "by"]
    texts = [" ".join(random.choice(words, random.integers(1, 21))) for _ in range(1200)]
    captions = {"train": {f"{n}.jpg": tuple(texts[2 * n : 2 * n + 2]) for n in range(600)}}
    root = tmp_path_factory.mktemp("many")
    with write_cache(root) as writer:
        put_text(writer, captions)
        for start in range(0, 600, 250):
            append(writer, list(captions["train"])[start : min(start + 250, 600)])
    return load_pairs(Cache.open(root), "train")


def padded(pairs, captions):
    """Return inputs, targets and lengths of captions, the plain way."""
    source = pairs.captions
    encoded = [source.tokens[source.offsets[c] : source.offsets[c + 1]].tolist() for c in captions]
    width = 1 + max(map(len, encoded))
    inputs = torch.full((len(encoded), width), PAD)
    targets = torch.full((len(encoded), width), PAD)
    for row, ids in enumerate(encoded):
        inputs[row, : len(ids) + 1] = torch.tensor([BOS, *ids])
        targets[row, : len(ids) + 1] = torch.tensor([*ids, EOS])
    return inputs, targets, [len(ids) + 1 for ids in encoded]


def assert_packed(pairs, captions):
    batch = pairs.batch(captions)
    inputs, targets, lengths = padded(pairs, captions)
    packed = pack_padded_sequence(inputs, lengths, batch_first=True)
    assert torch.equal(batch.inputs, packed.data)
    assert batch.batch_sizes == tuple(packed.batch_sizes.tolist())
    packed = pack_padded_sequence(targets, lengths, batch_first=True)
    assert torch.equal(batch.targets, packed.data)
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    assert (batch.captions, batch.tokens) == (len(captions), sum(lengths))


def test_the_layout_is_that_of_packed_padded_captions(pairs, many):
    assert_packed(pairs, np.argsort(-pairs.lengths, kind="stable"))
    for numbers in pairs.epoch(2, 0, 0) + pairs.epoch(1, 0, 0):
        assert_packed(pairs, numbers)
    for numbers in many.epoch(64, 0, 0):
        assert_packed(many, numbers)


def test_marks_and_tokens_of_one_batch(cache, pairs):
    # "a long red road", "a bus": BOS in front, EOS behind, step by step
    word = {word: n for n, word in enumerate(cache.vocabulary().words)}
    batch = pairs.batch(np.array([5, 1]))
    a, bus, long, red, road = (word[w] for w in ("a", "bus", "long", "red", "road"))
    assert batch.inputs.tolist() == [BOS, BOS, a, a, long, bus, red, road]
    assert batch.targets.tolist() == [a, a, long, bus, red, EOS, road, EOS]
    assert batch.batch_sizes == (2, 2, 2, 1, 1)
    np.testing.assert_array_equal(batch.features, vectors(["c.jpg", "a.jpg"]))


def test_every_batch_begins_and_ends_its_captions(many):
    for numbers in many.epoch(64, 3, 1):
        batch = many.batch(numbers)
        first = batch.batch_sizes[0]
        assert first == batch.captions
        assert (batch.inputs[:first] == BOS).all()
        assert (batch.inputs[first:] != BOS).all()
        assert (batch.targets == EOS).sum() == batch.captions
        assert (batch.inputs != EOS).all()
        assert batch.targets[-1] == EOS
        assert list(batch.batch_sizes) == sorted(batch.batch_sizes, reverse=True)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1200, 5000])
def test_an_epoch_covers_each_caption_once(many, batch_size):
    batches = many.epoch(batch_size, 0, 0)
    assert sorted(np.concatenate(batches)) == list(range(len(many))) == list(range(1200))
    sizes = sorted(map(len, batches))
    assert sizes[-1] <= batch_size
    assert len(batches) == -(-1200 // batch_size)
    for numbers in batches:
        assert (np.diff(many.lengths[numbers]) <= 0).all()


def same(one, two):
    return len(one) == len(two) and all(map(np.array_equal, one, two))


def test_the_order_is_a_function_of_seed_and_epoch(many):
    first = many.epoch(32, 1, 2)
    np.random.seed(5)
    torch.manual_seed(5)
    many.epoch(32, 9, 9)
    assert same(first, many.epoch(32, 1, 2))
    assert not same(first, many.epoch(32, 2, 1))
    assert not same(first, many.epoch(32, 1, 3))
    assert not same(first, many.epoch(32, 3, 2))


def test_batches_come_in_no_order_of_length(many):
    for size in (16, 64):  # of two buckets, and of one
        longest = np.array([many.lengths[numbers[0]] for numbers in many.epoch(size, 0, 0)])
        falls = (np.diff(longest) < 0).sum()
        assert falls > 0.25 * len(longest)
        assert (np.diff(longest) > 0).sum() > 0.25 * len(longest)


def waste(pairs, batches):
    lengths = [pairs.lengths[numbers] for numbers in batches]
    area = sum(len(part) * part.max() for part in lengths)
    return 1 - sum(part.sum() for part in lengths) / area


def test_captions_of_a_batch_are_of_like_length(many):
    at_random = np.array_split(np.random.default_rng(0).permutation(len(many)), 1200 // 16)
    assert waste(many, at_random) > 0.35
    assert len(many) > 16 * BUCKET  # more than one bucket, or this would be a plain sort
    assert waste(many, many.epoch(16, 0, 0)) < 0.05


def test_a_caption_has_the_vector_of_its_own_image(pairs, many):
    for joined in (pairs, many):
        expected = torch.from_numpy(vectors(joined.captions.keys))
        for epoch in range(3):
            for numbers in joined.epoch(32, 0, epoch):
                wanted = expected[torch.from_numpy(joined.captions.image[numbers]).long()]
                assert torch.equal(joined.batch(numbers).features, wanted)


def test_sequential_is_everything_once_longest_first(many):
    batches = list(many.sequential(100))
    assert [batch.captions for batch in batches] == [100] * 12
    assert sum(batch.tokens for batch in batches) == many.lengths.sum()
    steps = [len(batch.batch_sizes) for batch in batches]
    assert steps == sorted(steps, reverse=True)
    order = np.argsort(-many.lengths, kind="stable")
    assert_same_batch(batches[3], many.batch(order[300:400]))


def assert_same_batch(one, two):
    assert torch.equal(one.features, two.features)
    assert torch.equal(one.inputs, two.inputs)
    assert torch.equal(one.targets, two.targets)
    assert one.batch_sizes == two.batch_sizes


def test_a_batch_moves_to_a_device(pairs):
    batch = pairs.batch(np.array([5, 1]))
    assert_same_batch(batch.to(torch.device("cpu")), batch)
    away = batch.to(torch.device("meta"))
    assert {away.features.device, away.inputs.device, away.targets.device} == {torch.device("meta")}
    assert away.batch_sizes == batch.batch_sizes


def test_a_split_is_joined_with_its_own_rows(cache):
    pairs = load_pairs(cache, "val")
    assert pairs.keys == list(CAPTIONS["val"])
    assert (len(pairs), pairs.without_vector) == (3, 0)
    assert pairs.features.dtype == torch.float16
    np.testing.assert_array_equal(pairs.features, vectors(list(CAPTIONS["val"])))
    assert pairs.lengths.tolist() == [4, 6, 2]


def test_images_that_failed_are_left_out_and_counted(tmp_path):
    failed = "sub/é.jpg"  # in the middle of its split
    with write_cache(tmp_path) as writer:
        put_text(writer)
        append(writer, [key for key in reversed(KEYS) if key != failed], {failed: "empty file"})
    pairs = load_pairs(Cache.open(tmp_path), "train")
    assert pairs.keys == ["a.jpg", "c.jpg"]
    assert (len(pairs), pairs.without_vector) == (5, 1)
    kept = np.array([0, 1, 3, 4, 5])  # of the six captions of the split
    inputs, targets, lengths = padded(pairs, kept)
    for number in range(5):
        batch = pairs.batch(np.array([number]))
        assert batch.inputs.tolist() == inputs[number, : lengths[number]].tolist()
        assert batch.targets.tolist() == targets[number, : lengths[number]].tolist()
        key = pairs.captions.keys[pairs.captions.image[kept[number]]]
        np.testing.assert_array_equal(batch.features, vectors([key]))
    assert sorted(np.concatenate(pairs.epoch(2, 0, 0))) == list(range(5))


def test_images_that_no_one_has_tried_are_refused(tmp_path):
    with write_cache(tmp_path) as writer:
        put_text(writer)
        append(writer, KEYS[:1], {KEYS[1]: "empty file"})
    with pytest.raises(
        MissingFeatureError, match=r"1 images of 'train' have no vector, the first is c.jpg; run"
    ):
        load_pairs(Cache.open(tmp_path), "train")


def test_a_split_of_which_nothing_is_left_is_refused(tmp_path):
    with write_cache(tmp_path) as writer:
        put_text(writer)
        append(writer, [], dict.fromkeys(KEYS, "empty file"))
    with pytest.raises(CaptionsError, match=f"{tmp_path}: no image of 'val' has a vector"):
        load_pairs(Cache.open(tmp_path), "val")


def test_no_such_split(cache):
    with pytest.raises(CaptionsError, match="no captions of split 'test'"):
        load_pairs(cache, "test")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_moments_are_those_of_numpy(dtype):
    values = np.random.default_rng(0).normal(3, [0.1, 1, 10], (500, 3)).astype(dtype)
    mean, std = feature_moments(torch.from_numpy(values))
    assert mean.dtype == std.dtype == torch.float32
    exact = values.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, exact.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize("value", [0, 0.1, 1000.1, -3e4])
@pytest.mark.parametrize("count", [1, 7, 5000])
def test_a_constant_feature_stays_at_zero(value, count):
    values = torch.full((count, SPEC.dimension), value)
    mean, std = feature_moments(values)
    assert (std == 1).all()
    np.testing.assert_allclose((values - mean) / std, 0, atol=1e-6 * abs(value))
