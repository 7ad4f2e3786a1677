import json
import re

import pytest

from multispace.pipeline.reporting.curves import Curve, draw_curves
from multispace.pipeline.reporting.group_marks import COLOURS, group_mark


def curve(place=0, *, kl=0.0, target=None, steps=(1, 2, 3)):
    lines = []
    for step in steps:
        numbers = {"step": step, "recon": 9.0 - step, "kl_z": kl * step, "kl_c": 0.0}
        lines.append({**numbers, "split": "train"} | ({"capacity_z": target} if target else {}))
        lines.append({**numbers, "split": "val", "cider": 0.0})
    return Curve("a run", group_mark(place), lines)


def strokes(svg, colour):
    """Return the style of each line of that colour, the marks on it left aside."""
    lines = re.findall(r'<path d="[^"]*"[^>]*style="([^"]*fill: none[^"]*)"', svg)
    return [style for style in lines if f"stroke: {colour}" in style]


def test_each_run_has_its_lines_in_its_colour():
    plain, held = COLOURS[:2]
    svg = draw_curves([curve(), curve(1, kl=2.0, target=5.0)])
    assert len(strokes(svg, plain)) == 3  # CIDEr; reconstruction in training and validation
    assert len(strokes(svg, held)) == 6  # and the KL twice, with its target
    assert ["stroke-dasharray" in style for style in strokes(svg, held)].count(True) == 1
    assert not any("stroke-dasharray" in style for style in strokes(svg, plain))


@pytest.mark.parametrize(("kl", "panels"), [(0.0, 2), (1.0, 3)])
def test_a_channel_that_no_system_has_is_no_panel(kl, panels):
    svg = draw_curves([curve(kl=kl)])
    assert svg.count(">optimizer steps<") == panels
    assert (">KL of z, nats<" in svg) == (panels == 3)
    assert ">KL of c, nats<" not in svg


def test_the_image_is_part_of_the_page():
    curves = [curve(kl=1.0)]
    svg = draw_curves(curves)
    assert svg.startswith("<svg viewBox=")
    assert "http" not in svg
    assert "currentColor" in svg
    assert draw_curves(curves) == svg


def test_nothing_logged_is_no_image():
    assert draw_curves([]) == draw_curves([Curve("a run", group_mark(0), [])]) == ""


def test_curves_are_over_epochs_where_all_logs_have_them():
    lines = [{"step": 70 * n, "epoch": n, "split": "val", "cider": 0.5 * n} for n in (1, 2)]
    newer = Curve("new <b>", group_mark(0), lines, chosen=frozenset({140}))
    svg = draw_curves([newer])
    assert ">epochs<" in svg
    assert 'data-tip="new &lt;b&gt;, epoch 2: 1"' in svg
    plain = Curve("new <b>", group_mark(0), lines)
    assert svg.count("<use") == draw_curves([plain]).count("<use") + 1  # the ring
    assert ">optimizer steps<" in draw_curves([newer, curve()])


def test_axes_can_be_logarithmic():
    svg = draw_curves([curve(kl=2.0)], log=True)
    assert 'aria-label="learning curves, logarithmic axes"' in svg
    assert ">2<" in svg
    assert svg.count("data-tip") == 9  # a KL of validation, the reconstruction, and CIDEr of 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("value", ["NaN", "1e308", "-Infinity", "1e-300"])
def test_a_loss_that_was_lost_leaves_a_gap(value, log):
    line = f'{{"step": 1, "epoch": {value}, "split": "train", "recon": {value}}}'
    broken = Curve("a run", group_mark(0), [json.loads(line), json.loads(line)])
    assert ">reconstruction, nats a caption<" in draw_curves([broken], log=log)
