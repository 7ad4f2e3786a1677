import numpy as np
from PIL import Image

from multispace.pipeline.reporting.thumbnail import SIDES, fitting_side, small_image, thumbnail


def noise(path, size=(500, 400)):
    values = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(values).save(path)
    return path


def test_the_longest_side_whose_thumbnails_fit_is_chosen(tmp_path):
    path = noise(tmp_path / "a.png")
    sizes = {side: len(thumbnail(small_image(path, side), side)) for side in SIDES}
    budget = int(1.2 * 3 * sizes[180])
    assert fitting_side([path] * 3, budget) == 180
    assert fitting_side([path] * 3, 10 * budget) == SIDES[0]
    assert fitting_side([path] * 3, 1) == SIDES[-1]


def test_images_that_cannot_be_read_do_not_count(tmp_path):
    assert fitting_side([tmp_path / "none.png"], 1000) == SIDES[0]
    assert fitting_side([], 1000) == SIDES[0]
