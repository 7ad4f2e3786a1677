import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from multispace.pipeline.metrics.latents.concept_information import (
    NamedConcepts,
    concept_information,
)


def information(categories, named, units=None):
    units = np.arange(len(named)) if units is None else np.array(units)
    return concept_information(np.array(categories), units, NamedConcepts.of(named))


def test_identical_is_one():
    named = [{"dog"}, {"cat"}, {"bus"}] * 20
    found = information([5, 0, 2] * 20, named)
    assert found.nmi == pytest.approx(1)
    assert found.explained == pytest.approx(1)
    assert found.mutual_information == pytest.approx(math.log(3))
    assert found.entropy == pytest.approx(math.log(3))
    assert found.nmi_by_chance < 0.1


def test_independent_is_zero():
    found = information([0, 0, 1, 1] * 25, [{"dog"}, {"cat"}] * 50)
    assert found.nmi == pytest.approx(0, abs=1e-12)
    assert found.mutual_information == pytest.approx(0, abs=1e-12)
    assert found.explained <= 0
    assert information([0] * 10, [{"dog"}, {"cat"}] * 5).nmi == 0  # one category in use


def test_a_table_of_two_by_two_in_closed_form():
    # p(0, dog) = 3/8, p(0, cat) = 1/8, p(1, dog) = 1/8, p(1, cat) = 3/8
    named = [{"dog"}] * 3 + [{"cat"}] + [{"dog"}] + [{"cat"}] * 3
    found = information([0] * 4 + [1] * 4, named)
    shared = 2 * 3 / 8 * math.log(3 / 8 / 0.25) + 2 * 1 / 8 * math.log(1 / 8 / 0.25)
    assert found.mutual_information == pytest.approx(shared)
    assert found.nmi == pytest.approx(shared / math.log(2))  # both entropies are log 2


def test_finer_categories_explain_all_with_a_lower_nmi():
    named = [{"dog"}, {"dog"}, {"cat"}, {"cat"}] * 50
    found = information([0, 1, 2, 3] * 50, named)
    assert found.nmi == pytest.approx(2 * math.log(2) / (math.log(4) + math.log(2)))
    assert found.explained == pytest.approx(1)


def test_a_caption_counts_once_and_one_that_names_nothing_counts_as_well():
    # Weights by category: 0 has dog 1/2 and cat 1/2; 1 has "none" 1.
    found = information([0, 1], [{"dog", "cat"}, set()])
    assert found.entropy == pytest.approx(1.5 * math.log(2))
    assert found.mutual_information == pytest.approx(math.log(2))
    assert found.nmi == pytest.approx(2 / 2.5)


def test_captions_have_the_category_of_their_image():
    named = [{"dog"}, {"dog"}, {"cat"}, {"cat"}, {"cat"}, {"cat"}]
    found = information([1, 0, 0], named, [0, 0, 1, 1, 2, 2])
    assert found.nmi == pytest.approx(1)
    assert found.entropy == pytest.approx(-(1 / 3) * math.log(1 / 3) - (2 / 3) * math.log(2 / 3))


def test_it_agrees_with_scikit_learn_where_captions_name_one_concept():
    random = np.random.default_rng(0)
    nouns = random.integers(0, 9, 500)
    categories = (nouns + random.integers(0, 4, 500)) % 12
    found = information(categories, [{str(noun)} for noun in nouns])
    assert found.mutual_information == pytest.approx(mutual_info_score(nouns, categories))
    assert found.nmi == pytest.approx(normalized_mutual_info_score(nouns, categories))


def test_chance_is_what_random_categories_give():
    random = np.random.default_rng(0)
    named = [{str(noun)} for noun in random.integers(0, 30, 1000)]
    found = information(random.integers(0, 60, 1000), named)
    assert found.nmi > 0.15  # although nothing is shared
    assert found.nmi == pytest.approx(found.nmi_by_chance, abs=0.02)
    assert abs(found.explained) < 0.05
    again = information(random.integers(0, 60, 1000), named)
    assert again != found


def test_categories_of_their_own_explain_nothing():
    found = information(range(50), [{"dog"}, {"cat"}] * 25)
    assert found.mutual_information == pytest.approx(math.log(2))
    assert found.explained == 0


@pytest.mark.parametrize("named", [[set()] * 4, [{"dog"}] * 4])
def test_captions_that_all_name_the_same_have_no_information(named):
    assert information([0, 1, 0, 1], named) is None
