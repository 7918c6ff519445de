"""What a run or a checkpoint offers to be served."""

from dataclasses import replace

import pytest

from sea_ray.artifacts import Store, plain, write_json
from sea_ray.corpus.documents import DocumentWriter
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, SeaRayError
from sea_ray.launch.offers import Offer, Offered, Rota, folders, held_out, offer_of_checkpoint, offer_of_run, pinned
from sea_ray.serving.config import ServingConfig


@pytest.fixture
def finished(tmp_path):
    """Return a function that makes a store with a finished run whose gate passed or not."""
    store = Store(str(tmp_path / "store"))

    def made(passed=True):
        for kind, facts in (("gate", {"passed": passed, "reasons": ["too blunt"]}), ("sft", {}), ("base", {}), ("neurons", {})):
            write_json(store.root / "artifacts" / kind / "f" / "record.json", {"facts": facts})
        for language in ("th", "lo"):
            write_json(store.root / "artifacts" / "neurons" / "f" / "packs" / language / "pack.json", {})

        def trial(frac, fingerprint):
            artifact = fingerprint and {"kind": "neurons", "fingerprint": fingerprint}
            return {"point": {"neurons.selection.top_frac": frac}, "artifact": artifact}

        write_json(store.root / "mine" / "run.json", {"experiment": {
            "gate": {"kind": "gate", "fingerprint": "f"}, "winner": {"kind": "sft", "fingerprint": "f"},
            "base": {"kind": "base", "fingerprint": "f"}, "corpus": {"kind": "corpus", "fingerprint": "f"}, "thresholds": {
                "winner": {"neurons.selection.top_frac": 0.1}, "trials": [trial(0.02, "e"), trial(0.1, None), trial(0.1, "f")]}}})
        return store

    return made


def test_a_run_offers_its_winner_with_grafts_and_its_base_with_the_packs_of_the_winning_threshold(finished):
    store = finished()
    assert offer_of_run(store, "mine", ServingConfig(with_base=True)) == Offer(store=store.url, models=(
        Offered(name="sea-ray", checkpoint="sft/f", packs="neurons/f", grafts=True, texts="corpus/f"),
        Offered(name="base", checkpoint="base/f", packs="neurons/f", texts="corpus/f")))
    alone = offer_of_run(store, "mine", ServingConfig(model_name="mine", packs=False))
    assert alone.models == (Offered(name="mine", checkpoint="sft/f"),)
    assert folders(Offered(name="x", checkpoint="base/f", packs="neurons/f"), store.url) == (
        store.root / "artifacts/base/f", {code: store.root / "artifacts/neurons/f/packs" / code for code in ("lo", "th")})


def test_a_run_that_is_named_only_is_looked_up_where_it_is_served(finished):
    store, config = finished(), ServingConfig(with_base=True)
    assert pinned(Offer(store=store.url, run="mine"), config) == offer_of_run(store, "mine", config)


def test_a_winner_that_failed_its_gate_is_not_offered_unless_that_is_said(finished):
    store = finished(passed=False)
    with pytest.raises(SeaRayError, match=r"'mine' failed its safety gate: too blunt. .*safety.ignore_gate=true"):
        offer_of_run(store, "mine", ServingConfig())
    with pytest.raises(SeaRayError, match="too blunt"):
        pinned(Offer(store=store.url, run="mine"), ServingConfig())
    assert pinned(Offer(store=store.url, run="mine", ignore_gate=True), ServingConfig()).models


def test_the_effect_of_packs_is_measured_on_validation_text_while_the_store_has_it(finished):
    store = finished()
    offered = offer_of_run(store, "mine", ServingConfig()).models[0]
    assert held_out(offered, store.url, "th") == []  # the corpus was cleaned away
    writer = DocumentWriter(store.root / "artifacts/corpus/f/documents", ["th"])
    writer.append("th", "train", ["a"])
    writer.append("th", "validation", ["b"] * 100)
    writer.finish([])
    write_json(store.root / "artifacts/corpus/f/record.json", {"facts": {}})
    assert held_out(offered, store.url, "th") == ["b"] * 64
    assert held_out(replace(offered, texts=""), store.url, "th") == []


def test_what_is_gone_is_named(finished):
    with pytest.raises(SeaRayError, match="base g is no longer in the store"):
        folders(Offered(name="x", checkpoint="base/g"), finished().url)


def test_a_checkpoint_of_anybody_s_needs_no_run(tmp_path, monkeypatch):
    write_json(tmp_path / "packs" / "th" / "pack.json", {})
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    (offered,) = offer_of_checkpoint("model", "packs", ServingConfig()).models
    assert offered == Offered(name="sea-ray", checkpoint=str(tmp_path / "model"), packs=str(tmp_path / "packs"), grafts=True)
    assert offer_of_checkpoint("owner/name@main", "", ServingConfig()).models[0].checkpoint == "owner/name@main"
    with pytest.raises(ConfigError, match=r"'model' holds no language pack: name a folder with LANGUAGE/pack.json"):
        offer_of_checkpoint("model", "model", ServingConfig())


def test_a_rota_is_read_back_from_plain_values_and_a_typo_in_it_is_refused():
    rota = Rota(serving=Offer(store="s3://b", run="two"), standby=Offer(models=(Offered(name="x", checkpoint="/m"),)))
    assert decode(Rota, plain(rota)) == rota
    with pytest.raises(ConfigError, match=r"serving\.modles"):
        decode(Rota, {"serving": {"modles": []}})
    with pytest.raises(ConfigError, match="models or a run"):
        decode(Rota, {"serving": {"store": "runs"}})
