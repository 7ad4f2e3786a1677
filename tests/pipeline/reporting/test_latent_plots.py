import math

from multispace.pipeline.reporting.bar_plot import MAX_BARS, draw_bars
from multispace.pipeline.reporting.latent_plots import latent_plots

ENTRY = {"category": 5, "share": 0.75, "words": [{"word": "<i>dog"}, {"word": "grass"}]}
VARIABLE = {"size": 8, "in_use": 1, "categories": [ENTRY]}


def test_dimensions_are_sorted_and_categories_have_their_words():
    meaning = {"assigned": "images", "variables": [VARIABLE]}
    z, c = latent_plots({"z": {"kl_by_dimension": [0.5, 2.0]}, "c": {"meaning": meaning}})
    assert z.svg.index("z1: 2.000 nats") < z.svg.index("z0: 0.500 nats")
    assert 'data-tip="c0=5: 75.0% of images: &lt;i&gt;dog, grass"' in c.svg
    assert c.caption == "1 of 8 categories of c0 are used, the most frequent first"


def test_a_system_without_latents_has_no_plots():
    assert latent_plots({"verdict": "nothing"}) == []
    assert latent_plots({"c": {"kl": 1.0}}) == []  # of an earlier version


def test_bars_have_a_limit_and_gaps_for_what_is_no_number():
    plot = draw_bars([(math.nan, "none"), (2.0, "two"), *[(1.0, "one")] * 1000], "bars", "2")
    assert plot.svg.count("data-tip") == MAX_BARS
    assert "nan" not in plot.svg
