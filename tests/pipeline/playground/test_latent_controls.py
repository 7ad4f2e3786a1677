import math

import pytest
import torch

from multispace.errors import OptionError
from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from multispace.pipeline.playground.latent_controls import choose_controls

MEANS = torch.tensor([[0.1, 2.0, -1.0], [0.0, -2.0, 1.23456]])
LABELS = [["category 0.0: not in use", "category 0.1: a, b"],
          ["category 1.0: c", "category 1.1: d", "category 1.2: c"]]  # fmt: skip


@pytest.fixture
def posterior():
    """Two images, three dimensions of z, and variables of c with 2 and 3 categories."""
    first = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
    second = torch.tensor([[0.1, 0.1, 0.8], [0.98, 0.01, 0.01]]).log()
    return Posterior(DiagonalGaussian(MEANS, torch.zeros(2, 3)), Categoricals((first, second)))


def test_sliders_are_of_the_dimensions_with_the_largest_kl(posterior):
    controls = choose_controls(posterior, 2)
    assert [slider.dimension for slider in controls.sliders] == [1, 2]
    assert controls.sliders[0].kl == pytest.approx(2.0)  # mean of 2^2 / 2
    assert controls.sliders[0].label == "z1 (2.00 nats)"
    assert controls.names == "z and c"


def test_entries_are_named_by_their_words_and_else_by_their_number(posterior):
    named = choose_controls(posterior, 2, LABELS)
    assert [menu.entries for menu in named.menus] == [
        ("0: not in use", "1: a, b"), ("0: c", "1: d", "2: c"),
    ]  # fmt: skip
    assert named.menus[0].ordered == ["1: a, b", "0: not in use"]
    for labels in ([], LABELS[:1], LABELS[::-1]):
        plain = choose_controls(posterior, 2, labels)
        assert plain.menus[0].entries == ("category 0", "category 1")


def test_of_many_variables_those_with_the_largest_kl_have_menus():
    certain, unsure = torch.tensor([[0.99, 0.01]]).log(), torch.tensor([[0.5, 0.5]]).log()
    many = Posterior(c=Categoricals((unsure, certain, unsure, certain, certain, certain)))
    controls = choose_controls(many, 2)
    assert [(menu.variable, menu.start) for menu in controls.menus] == [
        (1, 2), (3, 6), (4, 8), (5, 10),
    ]  # fmt: skip
    assert controls.names == "c"


def test_untouched_controls_leave_the_latents_as_they_are(posterior):
    controls = choose_controls(posterior, 3, LABELS)
    for row in (0, 1):
        own = posterior.latents()[row : row + 1]
        assert controls.apply(own, controls.own(own)).equal(own)
    assert 1.23 in controls.own(posterior.latents()[1:])  # rounded for people


def test_what_is_set_changes_its_own_columns_only(posterior):
    controls = choose_controls(posterior, 2, LABELS)
    own = posterior.latents()[:1]
    values = controls.own(own)
    assert values == [2.0, -1.0, "0: not in use", "2: c"]
    moved = controls.apply(own, [-3.5, -1.0, "1: a, b", "2: c"])
    assert moved.tolist() == [[own[0, 0].item(), -3.5, -1.0, 0, 1, 0, 0, 1]]


def test_a_value_beyond_the_slider_stays_until_it_is_moved():
    far = Posterior(DiagonalGaussian(torch.tensor([[6.5]]), torch.zeros(1, 1)))
    controls = choose_controls(far, 1)
    own = far.latents()
    assert controls.own(own) == [4.0]
    assert controls.apply(own, [4.0]).tolist() == [[6.5]]
    assert controls.apply(own, [3.0]).tolist() == [[3.0]]


@pytest.mark.parametrize(
    "values",
    [
        [], [1.0], [1.0, 2.0, "0: c", "0: c", 5], [math.nan, 0, "1: a, b", "0: c"],
        [4.1, 0, "1: a, b", "0: c"], ["1", 0, "1: a, b", "0: c"], [True, 0, "1: a, b", "0: c"],
        [0, 0, "1: other", "0: c"], [0, 0, 1, "0: c"], [None] * 4,
    ],
)  # fmt: skip
def test_values_that_the_page_does_not_have_are_refused(posterior, values):
    controls = choose_controls(posterior, 2, LABELS)
    with pytest.raises(OptionError):
        controls.apply(posterior.latents()[:1], values)


def test_no_latents_no_controls():
    assert choose_controls(Posterior(), 4).each == ()
