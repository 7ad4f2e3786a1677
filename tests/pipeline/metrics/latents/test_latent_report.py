import json
from types import SimpleNamespace

import pytest
import torch
from support.planted import STRENGTH, Planted, one_word_pairs

import multispace.pipeline.metrics.latents.latent_report as module
from multispace.pipeline.metrics.latents.latent_report import (
    latent_lines,
    latent_report,
    latent_table,
    verdict,
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return one_word_pairs(tmp_path_factory.mktemp("planted") / "cache")


@pytest.fixture(autouse=True)
def _words(monkeypatch, planted):
    """Decode by the likeliest word of a condition; the planted decoder knows no steps."""

    def say(system, conditions, vocabulary):
        best = (conditions @ system.decoder.output_weight.T).argmax(-1)
        return [vocabulary.decode([word]) for word in best.tolist()]

    monkeypatch.setattr(module, "caption_conditions", say)


@pytest.mark.parametrize(
    ("heard", "judged"),
    [("z", ("uses", "ignores")), ("c", ("ignores", "uses")), ("", ("ignores", "ignores"))],
)
def test_the_verdict_says_what_the_decoder_uses(planted, heard, judged):
    pairs, vocabulary = planted
    report = latent_report(Planted(vocabulary, heard=heard), pairs, vocabulary, samples=2)
    nats = [STRENGTH if channel in heard else 0 for channel in "zc"]
    assert report["verdict"] == (
        f"5 of 5 units active, shuffling z costs {nats[0]:.1f} nats: the decoder {judged[0]} it; "
        f"5.0 of 5 categories in use, shuffling c costs {nats[1]:.1f} nats: "
        f"the decoder {judged[1]} it"
    )
    json.dumps(report, allow_nan=False)


def test_losses_of_nll_and_cider(planted):
    pairs, vocabulary = planted
    found = latent_report(Planted(vocabulary, heard="z"), pairs, vocabulary)["ablation"]
    assert found["captions"] == 5
    assert found["cider"] > 0  # every caption is its reference
    for name, lost in (("z", True), ("c", False), ("both", True)):
        shuffled = found["shuffled"][name]
        assert shuffled["nats"] == pytest.approx(STRENGTH * lost, abs=1e-4)
        assert shuffled["cider"] == pytest.approx(-found["cider"] * lost)
        assert (found["prior"][name]["nats"] > 0.1) == lost


def test_the_parts_of_the_kl(planted):
    pairs, vocabulary = planted
    report = latent_report(Planted(vocabulary), pairs, vocabulary)
    z, c = report["z"]["information"], report["c"]["information"][0]
    assert c["mutual_information"] == pytest.approx(torch.tensor(5.0).log().item(), abs=1e-4)
    assert c["sum"] == pytest.approx(report["c"]["kl"], abs=1e-4)
    assert z["mutual_information"] == pytest.approx(z["log_pictures"], abs=1e-4)  # far apart
    assert z["sum"] == pytest.approx(report["z"]["kl"], abs=0.2)


def test_a_table_with_a_row_for_each_channel_and_lines(planted):
    pairs, vocabulary = planted
    report = latent_report(Planted(vocabulary), pairs, vocabulary, samples=2)
    head, rows = latent_table(report)
    assert [row[0] for row in rows] == ["z", "c", "both"]
    assert {len(row) for row in rows} == {len(head)}
    lines = latent_lines(report)
    assert "cannot exceed log N = 1.61" in lines[0]
    assert lines[-1] == report["verdict"]
    only = latent_report(Planted(vocabulary, has="c"), pairs, vocabulary)
    assert [row[0] for row in latent_table(only)[1]] == ["c"]
    assert only["verdict"].startswith("5.0 of 5 categories")


def test_several_variables_are_said_together():
    report = {
        "c": {"usage_perplexity": [2.0, 4.0], "sizes": [8, 8]},
        "ablation": {"shuffled": {"c": {"nats": 0.5}}},
    }
    assert verdict(report) == (
        "2 x 3.0 of 8 categories in use, shuffling c costs 0.5 nats: the decoder hardly uses it"
    )


def test_where_there_is_nothing_to_measure_it_is_said(planted):
    pairs, vocabulary = planted
    system = Planted(vocabulary)
    system.has, system.options = "", SimpleNamespace(system="base")
    report = latent_report(system, pairs, vocabulary)
    assert report == {"verdict": "base has no latent space: nothing to measure"}
    assert latent_table(report)[1] == []
    assert latent_lines(report) == [report["verdict"]]
    one = SimpleNamespace(features=pairs.features[:1])
    assert "one image" in latent_report(Planted(vocabulary), one, vocabulary)["verdict"]
