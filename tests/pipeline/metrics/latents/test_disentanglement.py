import numpy as np
import pytest

from multispace.pipeline.metrics.latents import disentanglement as scores

SIZES = (4, 3, 5)


@pytest.fixture(scope="module")
def factors() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack([random.integers(size, size=600) for size in SIZES], axis=1)


def noise(factors: np.ndarray, columns: int = 4) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(len(factors), columns))


def rotated(factors: np.ndarray) -> np.ndarray:
    mixing = np.array([[2, -1, 2], [2, 2, -1], [-1, 2, 2]]) / 3  # orthogonal
    return (factors - factors.mean(0)) / factors.std(0) @ mixing


def categorical(factors: np.ndarray) -> list[bool]:
    return [False] * factors.shape[1]


def test_information_by_hand():
    factor = np.array([0, 0, 1, 1])
    codes = np.array([[0.0, 5.0, 1.0], [0.0, 6.0, 2.0], [1.0, 5.0, 2.0], [1.0, 6.0, 2.0]])
    found = scores.mutual_information(codes, factor[:, None])[:, 0]
    third = np.log(2) + (0.25 * np.log(0.25) + 0.75 * np.log(0.75)) * -1 - 1.0397208
    np.testing.assert_allclose(found, [np.log(2), 0, third], atol=1e-6)


def test_codes_that_are_the_factors(factors):
    codes = factors + 0.01 * noise(factors, 3)
    assert (scores.mig(codes, factors) > 0.95).all()
    assert (scores.sap(codes, factors, [True] * 3) > 0.95).all()
    found = scores.dci(codes, factors)
    assert min(found[:3]) > 0.95
    assert scores.factor_vae(codes, factors).score > 0.99


def test_svm_tells_a_factor_of_two_values_from_one_code(factors):
    binary = (factors[:, :2] > 1).astype(np.int64)
    codes = 4.0 * binary - 2 + 0.01 * noise(factors, 2)
    assert (scores.sap(codes, binary, categorical(binary)) > 0.4).all()  # of 1 against chance


def test_codes_that_know_nothing(factors):
    codes = noise(factors)
    assert (scores.mig(codes, factors) < 0.05).all()
    assert (scores.sap(codes, factors, categorical(factors)) < 0.1).all()
    assert (scores.sap(codes, factors, [True] * 3) < 0.05).all()
    found = scores.dci(codes, factors)
    assert found.disentanglement < 0.2
    assert found.informativeness < 0.5
    assert scores.factor_vae(codes, factors).score < 0.6
    assert scores.probe(codes, factors[:, 0]) < scores.majority(factors[:, 0]) + 0.1


def test_rotated_codes_score_low_though_they_know_all(factors):
    codes = rotated(factors)
    assert scores.mig(codes, factors).mean() < 0.3
    found = scores.dci(codes, factors)
    assert found.disentanglement < 0.5
    assert found.completeness < 0.5
    assert scores.probe(codes, factors[:, 1]) > 0.9


def test_two_codes_of_one_factor_leave_no_gap(factors):
    codes = np.concatenate((factors, factors[:, :1]), axis=1).astype(float)
    gaps = scores.mig(codes, factors)
    assert gaps[0] == pytest.approx(0, abs=1e-12)
    assert (gaps[1:] > 0.95).all()
    assert scores.sap(codes, factors, categorical(factors))[0] == pytest.approx(0)


def test_entropy_is_that_of_the_values_at_hand():
    factor = np.array([0] * 90 + [1] * 10)[:, None]
    codes = np.concatenate((factor, np.zeros_like(factor)), axis=1).astype(float)
    assert scores.mig(codes, factor)[0] == pytest.approx(1)


def test_importance_is_a_row_a_code(factors):
    codes = np.concatenate((noise(factors, 2), factors), axis=1).astype(float)
    importance = scores.dci(codes, factors).importance
    assert importance.shape == (5, 3)
    assert importance.argmax(0).tolist() == [2, 3, 4]


@pytest.mark.parametrize("seed", range(8))
def test_a_rare_value_is_learnt_before_it_is_judged(seed):
    factor = (np.arange(60) < 2).astype(np.int64)[:, None]
    codes = 9.0 * factor + np.zeros((60, 2))
    assert scores.sap(codes, factor, [False], seed)[0] == 0
    assert scores.dci(codes, factor, seed).informativeness == 1.0


@pytest.mark.parametrize("score", ["mutual_information", "mig", "dci", "factor_vae"])
def test_transposed_matrices_are_refused(factors, score):
    function = getattr(scores, score)
    codes = factors.astype(float)
    for pair in ((codes.T, factors), (codes, factors.T), (codes.T, factors.T)):
        with pytest.raises(ValueError, match=r"expected \(N, D\) and \(N, F\)"):
            function(*pair)


def test_a_constant_factor_is_refused(factors):
    with pytest.raises(ValueError, match="constant"):
        scores.mig(factors.astype(float), np.zeros_like(factors))


def test_votes_fit_the_data_and_leave_out_dead_codes(factors):
    codes = np.concatenate((factors, 0.01 * noise(factors, 2)), axis=1)
    found = scores.factor_vae(codes, factors)
    assert (found.learnt, found.judged, found.codes) == (6000, 3000, 3)
    assert found.score > 0.99
    assert scores.factor_vae(0.01 * noise(factors), factors) == (0.0, 6000, 3000, 0)


def test_a_probe_reads_a_linear_code_and_guesses_the_rest(factors):
    code = np.eye(SIZES[2])[factors[:, 2]] @ np.random.default_rng(3).normal(size=(5, 5))
    assert scores.probe(code, factors[:, 2]) == 1.0
    unbalanced = (np.arange(600) % 10 == 0).astype(np.int64)
    assert scores.majority(unbalanced) == pytest.approx(0.9)
    assert scores.probe(noise(factors), unbalanced) == pytest.approx(0.9, abs=0.02)
    with pytest.raises(ValueError, match="occurs once"):
        scores.probe(noise(factors), np.array([1] + [0] * 599))


def test_codes_that_do_not_vary_score_nothing(factors):
    codes = np.zeros((600, 2))
    assert (scores.mig(codes, factors) == 0).all()
    assert scores.dci(codes, factors)[:2] == (0.0, 0.0)
    assert (scores.sap(codes, factors, [True] * 3) == 0).all()
