import math

import pytest

from multispace.model.latent.schedules import (
    Capacity,
    CyclicalAnnealing,
    LearningRate,
    LogisticAnnealing,
    Temperature,
    categorical_cap,
    linear_annealing,
)


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0019), (2500, 0.5), (5000, 0.9981)])
def test_annealing_weights(step, weight):
    assert LogisticAnnealing()(step) == pytest.approx(weight, abs=5e-5)


@pytest.mark.parametrize("step", [0, 1, 999, 2500, 4000, 20_000])
def test_annealing_is_the_logistic_function(step):
    annealing = LogisticAnnealing(midpoint=1000, slope=0.01)
    assert annealing(step) == pytest.approx(1 / (1 + math.exp(-0.01 * (step - 1000))), rel=1e-9)


def test_annealing_never_overflows_and_never_falls():
    assert LogisticAnnealing(midpoint=10**9, slope=1)(0) == 0
    assert LogisticAnnealing()(10**15) == 1
    weights = [LogisticAnnealing()(step) for step in range(0, 10_000, 50)]
    assert weights == sorted(weights)


def test_linear_annealing_rises_in_a_line_to_1():
    weight = linear_annealing(200)
    assert [weight(step) for step in (0, 50, 100, 150, 200, 10**9)] == [0, 0.25, 0.5, 0.75, 1, 1]


def test_cyclical_annealing_begins_anew():
    weight = CyclicalAnnealing(steps=400, cycles=4)
    for start in (0, 100, 200, 300):
        weights = [weight(start + step) for step in (0, 10, 25, 49, 50, 75, 99)]
        assert weights == pytest.approx([0, 0.2, 0.5, 0.98, 1, 1, 1])
    assert weight(400) == weight(10**9) == 1


def test_the_temperature_falls_exponentially_to_its_minimum():
    temperature = Temperature(start=1.0, minimum=0.5, rate=1e-3)
    values = [temperature(step) for step in range(0, 1500, 100)]
    assert values[0] == 1
    assert values[3] == pytest.approx(math.exp(-0.3))
    assert values[:8] == sorted(set(values[:8]), reverse=True)  # it falls until log 2 / rate = 693
    assert set(values[7:]) == {0.5}
    assert temperature(10**9) == 0.5


def test_the_temperature_is_constant_without_a_rate():
    assert {Temperature(0.3)(step) for step in (0, 1, 10**9)} == {0.3}


def test_the_learning_rate_is_constant_by_default():
    assert {LearningRate(1e-3, 9)(step) for step in (1, 5, 9, 10**9)} == {1e-3}


def test_the_learning_rate_warms_up_and_falls_in_a_line_to_the_last_step():
    rate = LearningRate(0.8, 12, "linear", warmup=4, minimum=0.4)
    expected = [0.2, 0.4, 0.6, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4]
    assert [rate(step) for step in range(1, 13)] == pytest.approx(expected)


def test_the_learning_rate_falls_as_a_cosine():
    rate = LearningRate(1.0, 100, "cosine", minimum=0.2)
    assert rate(0) == 1
    assert rate(50) == pytest.approx(0.6)
    assert rate(25) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)
    assert rate(100) == pytest.approx(0.2)


def test_a_constant_learning_rate_warms_up_too():
    assert [LearningRate(1.0, 5, warmup=4)(step) for step in (1, 2, 4, 5)] == [0.25, 0.5, 1, 1]


def test_capacity_rises_in_a_line_and_then_stays():
    capacity = Capacity(minimum=5, maximum=25, steps=1000)
    assert [capacity(step) for step in (0, 250, 500, 1000, 1001, 10**9)] == [5, 10, 15, 25, 25, 25]
    assert not capacity.capped


def test_capacity_without_a_rise_is_the_maximum_at_once():
    assert Capacity(minimum=0, maximum=30, steps=0)(0) == 30
    assert Capacity(minimum=30, maximum=30, steps=2500)(0) == 30


def test_capacity_stops_at_what_the_channel_carries():
    cap = categorical_cap([128])
    capacity = Capacity(minimum=0, maximum=10, steps=100, cap=cap)
    assert capacity(40) == 4
    assert capacity(60) == capacity(100) == cap
    assert capacity.capped
    assert not Capacity(minimum=0, maximum=4.5, steps=100, cap=cap).capped


@pytest.mark.parametrize(
    ("sizes", "nats"), [([128], 4.852), ([2] * 128, 88.72), ([3, 5], 2.708), ([], 0)]
)
def test_what_categoricals_carry(sizes, nats):
    assert categorical_cap(sizes) == pytest.approx(nats, abs=5e-3 if nats > 10 else 5e-4)


@pytest.mark.parametrize(("minimum", "maximum"), [(-1, 5), (5, 4), (math.nan, 5)])
def test_a_capacity_that_falls_or_is_negative_is_refused(minimum, maximum):
    with pytest.raises(ValueError, match=f"from {minimum} to {maximum} nats"):
        Capacity(minimum=minimum, maximum=maximum, steps=10)


def test_a_negative_number_of_steps_is_refused():
    with pytest.raises(ValueError, match="steps is -1"):
        Capacity(minimum=0, maximum=1, steps=-1)
