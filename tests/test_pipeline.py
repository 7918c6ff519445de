"""The whole method in this process, on a miniature experiment: all stages run, reuse works, the report is written."""

import contextlib
import csv
import html
import json
import time
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from sea_ray import plan
from sea_ray.artifacts import Store, plain
from sea_ray.data_report import data_report
from sea_ray.demo import World
from sea_ray.errors import ConfigError, DataError
from sea_ray.evaluation.figures import EvalReport
from sea_ray.evaluation.pairing import compare
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment
from sea_ray.neurons.pack import LanguagePack
from sea_ray.neurons.statistics import ImportanceStats
from sea_ray.pipeline import run_experiment
from sea_ray.report.data_page import write_data_report
from sea_ray.report.page import write_report
from sea_ray.run_report import report_data
from sea_ray.sft.review import sample, write_sheets
from sea_ray.sft.self_instruct import generate
from sea_ray.sft.stages import all_conversations, build_stage_data
from sea_ray.sft.teacher import TeacherConfig
from sea_ray.tracking import NullTracker
from sea_ray.training.checkpoint import Checkpoint


class Counting:
    """A platform that counts which stages are computed and how often a model is served."""

    def __init__(self, platform):
        self.platform, self.rows, self.served = platform, [], 0

    @property
    def store(self):
        return self.platform.store

    @property
    def tracker(self):
        return self.platform.tracker

    @property
    def computed(self):
        return sorted(row["name"] for row in self.rows if not row["reused"])

    def _row(self, name, artifact, reused):
        self.rows.append({"name": name, "kind": artifact.kind, "fingerprint": artifact.fingerprint, "reused": reused,
                          "seconds": artifact.record["seconds"]})

    def run(self, stage):
        reused = self.store.find(stage.key) is not None
        artifact = self.platform.run(stage)
        self._row(stage.name, artifact, reused)
        return artifact

    def sweep(self, name, search):
        done = self.platform.sweep(name, search)
        for trial in done:
            self._row(trial.name, trial.artifact, trial.reused)
        return done

    @contextlib.contextmanager
    def serving(self, checkpoint, config):
        self.served += 1
        with self.platform.serving(checkpoint, config) as endpoint:
            yield endpoint


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(str(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def carry_out(store, miniature):
    def run(*overrides):
        platform = Counting(SoloPlatform(store))
        return run_experiment(compose_experiment([*miniature, *overrides]), platform), platform

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield run
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def first(carry_out):
    return carry_out()


@pytest.fixture(scope="module")
def experiment(first):
    return first[0]


def test_all_stages_are_computed_once(first):
    _, platform = first
    assert max(Counter(row["fingerprint"] for row in platform.rows).values()) == 1
    assert not any(row["reused"] for row in platform.rows)
    assert Counter(row["kind"] for row in platform.rows) == {
        "corpus": 1, "base": 1, "detection": 1, "neurons": 3, "merged": 2, "continued_pretraining": 2, "conversations": 2,
        "sft": 4, "evaluation": 7, "gate": 1}
    assert platform.served == 1


def test_every_artifact_of_the_results_carries_a_record(first):
    experiment, platform = first
    listed = {artifact.fingerprint for artifact in experiment.artifacts()}
    assert {row["fingerprint"] for row in platform.rows} == listed
    for artifact in experiment.artifacts():
        record = artifact.record
        assert record["fingerprint"] == artifact.fingerprint
        assert set(record["parents"].values()) <= listed
        assert record["seconds"] >= 0
        assert record["execution"]["peak_memory_bytes"] > 0


def test_the_merged_model_differs_from_the_base_in_the_selected_neurons_alone(experiment):
    base, merged = (Checkpoint.load(artifact.folder).load_model() for artifact in (experiment.base, experiment.merged))
    pack = LanguagePack.load(experiment.thresholds.winner.artifact.folder / "merged")
    pack.apply(base)
    for (name, mine), theirs in zip(base.named_parameters(), merged.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    runs = experiment.thresholds.winner.artifact.facts["runs"]
    assert set(runs) == {"id", "th"}
    for run in runs.values():
        assert run["untouched"]["changed_outside"] == []
        assert run["untouched"]["values_outside"] > run["untouched"]["values_inside"] > 0


def test_both_control_arms_see_the_same_tokens_as_the_winner(experiment):
    tokens = experiment.thresholds.winner.artifact.facts["tokens"]
    assert experiment.controls["continued_pretraining"].facts["tokens"] == pytest.approx(tokens, rel=0.1)


def test_the_adapters_arm_is_an_ordinary_checkpoint_in_which_only_its_layers_moved(experiment):
    proof = experiment.controls["lora"].facts["untouched"]
    assert proof["changed_outside"] == []
    assert proof["values_inside"] > 0
    artifacts = (experiment.base, experiment.controls["lora"])
    base, adapted = (Checkpoint.load(artifact.folder).tensor_digests() for artifact in artifacts)
    moved = {name for name in base if base[name] != adapted[name]}
    assert base.keys() == adapted.keys()
    assert moved
    assert all("_proj.weight" in name for name in moved)


def test_figures_carry_n_and_an_interval_for_every_language(experiment):
    for name in ("base", "neuron-trained", "SFT without safety", "winner"):
        report = EvalReport.load(experiment.evaluations[name].folder)
        assert {figure.language for figure in report.figures} == {"en", "id", "th"}
        assert {figure.task for figure in report.figures} >= {"text", "exam", "arithmetic", "refusal"}
        assert all(figure.n > 0 and figure.low <= figure.value <= figure.high for figure in report.figures)
        model = experiment.evaluations[name].record["parents"]["model"]
        assert (report.settings["checkpoint"], report.settings["decoding"]) == (model, "greedy")
        assert report.settings["prompts"] == report.prompts()


def test_two_models_of_an_experiment_are_compared_on_the_same_items(experiment):
    winner, unsafe = (EvalReport.load(experiment.evaluations[name].folder) for name in ("winner", "SFT without safety"))
    found = compare(unsafe, winner)
    assert {one.metric for one in found} == {"bits_per_byte", "accuracy", "exact_match", "sentence_chrf", "right_side"}
    assert {one.language for one in found} == {"en", "id", "th"}
    with pytest.raises(ConfigError, match="prompting is chat and plain"):
        compare(winner, EvalReport.load(experiment.evaluations["base"].folder))


def test_the_winner_asked_through_its_door_gives_the_figures_of_the_same_model_in_process(
        experiment, store, miniature):
    """The endpoint is not part of what the evaluation is: the door must change nothing."""
    config = compose_experiment(miniature)
    stage = plan.evaluation(config, "winner", experiment.winner, experiment.corpus, chat=True)
    elsewhere = SoloPlatform(Store(str(store.root / "elsewhere")))
    local = EvalReport.load(elsewhere.run(replace(stage, endpoint=None)).folder)
    served = EvalReport.load(experiment.evaluations["winner"].folder)
    assert len(local.figures) == len(served.figures)
    for mine, theirs in zip(local.figures, served.figures, strict=True):
        assert (mine.task, mine.metric, mine.language, mine.n) == (theirs.task, theirs.metric, theirs.language, theirs.n)
        assert mine.value == pytest.approx(theirs.value, rel=1e-4, abs=1e-4), (mine.task, mine.metric, mine.language)


@pytest.mark.parametrize("num_shards", [1, 3, 6])
def test_the_number_of_shards_changes_no_statistic(experiment, store, miniature, num_shards):
    config = compose_experiment([*miniature, f"cluster.num_tasks={num_shards}"])
    stage = plan.detection(config, experiment.base, experiment.corpus)
    assert stage.num_shards == num_shards
    again = SoloPlatform(Store(str(store.root / f"shards-{num_shards}"))).run(stage)
    assert again.fingerprint == experiment.statistics.fingerprint
    mine, theirs = (ImportanceStats.load(artifact.folder) for artifact in (again, experiment.statistics))
    for code in theirs.languages:
        for site in theirs.sites:
            ours, others = asdict(mine[code, site]), asdict(theirs[code, site])
            for name, values in others.items():
                np.testing.assert_allclose(ours[name], values, rtol=1e-6, err_msg=f"{code} {site} {name}")


def test_the_number_of_shards_changes_no_figure(experiment, store, miniature):
    config = compose_experiment([*miniature, "cluster.num_tasks=5"])
    stage = plan.evaluation(config, "base", experiment.base, experiment.corpus, chat=False)
    again = SoloPlatform(Store(str(store.root / "three"))).run(stage)
    assert again.fingerprint == experiment.evaluations["base"].fingerprint
    mine, theirs = (EvalReport.load(artifact.folder) for artifact in (again, experiment.evaluations["base"]))
    assert len(mine.figures) == len(theirs.figures)
    for ours, others in zip(mine.figures, theirs.figures, strict=True):
        assert (ours.task, ours.metric, ours.language, ours.n) == (others.task, others.metric, others.language, others.n)
        assert ours.value == pytest.approx(others.value, rel=1e-5, abs=1e-6)
    assert [detail.prompt for detail in mine.details] == [detail.prompt for detail in theirs.details]


def test_a_checkpoint_serves_as_base_and_one_that_cannot_read_its_text_is_refused(experiment, store, miniature, tmp_path):
    def base_from(folder):
        platform = SoloPlatform(store)
        config = compose_experiment([*miniature, f"model.checkpoint={folder}"])
        return platform.run(plan.base(config, platform.run(plan.corpus(config))))

    assert base_from(experiment.base.folder).facts["validation_bits_per_byte"] == pytest.approx(
        experiment.base.facts["validation_bits_per_byte"], rel=1e-4)
    strange = Checkpoint.load(experiment.base.folder)
    model = strange.load_model()
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(model.get_input_embeddings().weight.roll(100, 0) * 30)
    Checkpoint.save(tmp_path / "strange", model, strange.load_tokenizer())
    with pytest.raises(DataError, match=r"bits for a token of .*: the tokenizer is not the one"):
        base_from(tmp_path / "strange")


def test_fine_tuning_with_adapters_moves_their_layers_only(experiment, store, miniature):
    config = compose_experiment([*miniature, "sft.policy.kind=lora", "sft.policy.lora_rank=4"])
    tuned = SoloPlatform(store).run(
        plan.sft(config, "broad", experiment.merged, experiment.conversations[0], experiment.corpus))
    assert tuned.facts["training"]["trained_values"] < experiment.winner.facts["training"]["trained_values"] / 4
    before, after = (Checkpoint.load(artifact.folder).tensor_digests() for artifact in (experiment.merged, tuned))
    moved = {name for name in after if after[name] != before[name]}
    assert moved == {name for name in after if "_proj.weight" in name}


def test_only_reviewed_conversations_are_taught_when_review_is_required(experiment, store, miniature, tmp_path):
    config = compose_experiment(miniature)
    everything = all_conversations(config.sft.data, World(config.corpus.demo.world_seed, config.corpus.languages))
    for file in write_sheets(sample(everything, 1, seed=0), tmp_path):
        rows = list(csv.DictReader(file.open(encoding="utf-8-sig")))
        with file.open("w", encoding="utf-8-sig", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(row | {"decision": "reject" if number % 2 else "accept"} for number, row in enumerate(rows))
    sheets = ",".join(str(file) for file in sorted(tmp_path.glob("*.csv")))
    strict = compose_experiment([*miniature, f"sft.data.reviews=[{sheets}]", "sft.data.require_review=true"])
    undecided = 0
    for with_safety in (True, False):
        made = SoloPlatform(store).run(plan.conversations(strict, experiment.corpus, with_safety=with_safety))
        for stage in ("broad", "high_quality"):
            facts = made.facts[stage]
            assert facts["review"]["reject"] > 0
            assert sum(facts["conversations"].values()) + sum(facts["too_long"].values()) == facts["review"]["accept"]
            undecided += facts["review"].get("undecided", 0)
    assert undecided > 0


def test_a_kind_of_conversation_takes_the_share_that_it_is_given(experiment, store, miniature):
    config = compose_experiment([*miniature, "sft.data.kind_shares={unanswerable: 0.25}"])
    solo = SoloPlatform(store)
    made = solo.run(plan.conversations(config, experiment.corpus))
    assert {"th", "th/unanswerable"} <= set(made.facts["high_quality"]["conversations"])
    tuned = solo.run(plan.sft(config, "high_quality", experiment.merged, made, experiment.corpus))
    samples = config.sft.high_quality.total_samples
    share = tuned.facts["training"]["kind_shares"]["unanswerable"]
    assert share == pytest.approx(0.25 * (1 - tuned.facts["training"]["text_share"]), abs=3 / samples)
    assert sum(tuned.facts["training"]["realised_shares"].values()) == pytest.approx(1)
    report = data_report(config, experiment.corpus, made, "sea-ray data", "today")
    assert {row.kind for row in report.conversations if row.stage == "high_quality"} == {"", "unanswerable"}
    wrong = compose_experiment([*miniature, "sft.data.kind_shares={unanswerabel: 0.25}"])
    with pytest.raises(ConfigError, match="did you mean unanswerable"):
        solo.run(plan.conversations(wrong, experiment.corpus))


def test_what_asks_for_an_invented_name_that_the_corpus_holds_is_left_out(experiment, store, miniature, tmp_path):
    config = compose_experiment(miniature)
    told = World(config.corpus.demo.world_seed, config.corpus.languages).documents("en", "train", 1)[0].split()[0]
    rows = [{"prompt": f"{name}?", "response": "No.", "kind": "unanswerable", "entity": name} for name in (told, "Qqvx")]
    (tmp_path / "th.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = compose_experiment([*miniature, f"sft.data.root={tmp_path}",
                                 "sft.data.broad.files=[{path: th.jsonl, language: th, format: answerability}]"])
    for with_safety in (True, False):
        made = SoloPlatform(store).run(plan.conversations(config, experiment.corpus, with_safety=with_safety))
        before = experiment.conversations[0 if with_safety else 1].facts["broad"]
        assert made.facts["broad"]["in_corpus"] == {"en": 0, "id": 0, "th": int(with_safety)}
        assert made.facts["broad"]["conversations"]["th"] == before["conversations"]["th"] + int(with_safety)
    assert not any(before["in_corpus"].values()), "the demo world's own names are unknown to its text"


def test_a_served_winner_can_be_asked_for_instructions_like_any_teacher(experiment, store, miniature, tmp_path, monkeypatch):
    config = compose_experiment(miniature)
    world = World(config.corpus.demo.world_seed, config.corpus.languages)
    examples = build_stage_data(config.sft.data, config.sft.data.broad, world)
    with SoloPlatform(store).serving(experiment.winner, config.serving) as endpoint:
        monkeypatch.setenv("TEACHER_KEY", endpoint.api_key)
        teacher = TeacherConfig(url=endpoint.url, model=endpoint.model, key_variable="TEACHER_KEY", requests_per_language=2,
                                examples=1, max_tokens=8)
        made = generate(teacher, examples, tmp_path, NullTracker())
    assert {code: sum(outcomes.values()) for code, outcomes in made.outcomes.items()} == dict.fromkeys(("en", "id", "th"), 2)
    assert made.prompt_tokens > 0
    assert 0 < made.answer_tokens <= 6 * 8


def test_a_mix_may_be_a_rule_over_what_there_is(experiment, store, miniature):
    config = compose_experiment([*miniature, "sft.mix=alike", "+sft.mix_rules={alike: {kind: uniform}}"])
    tuned = SoloPlatform(store).run(
        plan.sft(config, "broad", experiment.merged, experiment.conversations[0], experiment.corpus))
    shares = tuned.facts["training"]["realised_shares"]
    assert set(shares) == {"en", "id", "th"}
    assert max(shares.values()) - min(shares.values()) <= 2 / config.sft.broad.total_samples


def test_plain_text_may_be_taught_beside_conversations(experiment, store, miniature):
    config = compose_experiment([*miniature, "sft.text_share=0.5", "sft.broad.steps=6"])
    tuned = SoloPlatform(store).run(
        plan.sft(config, "broad", experiment.merged, experiment.conversations[0], experiment.corpus))
    training = tuned.facts["training"]
    assert training["text_share"] == 0.5
    assert training["realised_shares"] == pytest.approx(dict.fromkeys(("en", "id", "th"), 1 / 3), abs=0.15)
    assert set(tuned.facts["validation_bits_per_byte"]) == {"en", "id", "th"}


def test_an_untrained_miniature_fails_the_gate_and_says_why(experiment):
    facts = experiment.gate.facts
    assert not facts["passed"]
    assert not [reason for reason in facts["reasons"] if "was not measured" in reason]


def test_a_second_run_reuses_everything_and_serves_nothing(first, carry_out):
    start = time.perf_counter()
    again, platform = carry_out()
    assert platform.computed == []
    assert platform.served == 0
    assert [row["name"] for row in platform.rows] == [row["name"] for row in first[1].rows]
    assert [artifact.fingerprint for artifact in again.artifacts()] == [
        artifact.fingerprint for artifact in first[0].artifacts()]
    assert time.perf_counter() - start < 5


def test_another_winner_of_the_mixes_computes_only_what_depends_on_it(first, carry_out):
    _, platform = carry_out("sweep.mixes.space={sft.mix: [english]}")
    tuned = {"sft/high_quality", "control/without_safety", "evaluation/SFT without safety", "evaluation/winner", "gate"}
    changed = first[0].mixes.winner.point["sft.mix"] != "english"
    assert set(platform.computed) == (tuned if changed else set())
    assert platform.served == int(changed)


def test_a_wider_threshold_sweep_computes_its_new_trial_and_no_old_one(carry_out):
    experiment, platform = carry_out("sweep.neurons.space={neurons.selection.top_frac: [0.1, 0.2, 0.3]}",
                                     "sweep.neurons.at_most={gain_sea: -9.0}")
    assert "neurons/top_frac=0.3" in platform.computed
    assert not {"corpus", "base", "detection", "neurons/top_frac=0.1", "neurons/top_frac=0.2"} & set(platform.computed)
    assert not experiment.thresholds.keeps_limits


def test_mixes_are_searched_on_the_simplex_for_two_objectives_with_repeated_seeds(carry_out, store):
    overrides = ["+sft.mixes.own={en: 1, id: 1, th: 1}", "~sweep.mixes.space",
                 "+sweep.mixes.space={sft.mixes.own: {simplex: {languages: [en, id, th], floors: {en: 0.2}}}}", "sft.mix=own",
                 "sweep.mixes.search=tpe", "sweep.mixes.num_samples=2", "sweep.mixes.repeats=2",
                 "~sweep.mixes.objectives",
                 "+sweep.mixes.objectives={validation_nats_sea: min, validation_nats_high_resource: min}"]
    experiment, platform = carry_out(*overrides)
    trials = experiment.mixes.trials
    assert [(trial.repetition, trial.outcome) for trial in trials] == [(0, "finished"), (1, "finished")] * 2
    assert len({trial.artifact.fingerprint for trial in trials}) == 4
    for trial in trials:
        mix = trial.point["sft.mixes.own"]
        assert mix["en"] >= 0.2
        assert trial.artifact.record["config"]["mix"] == mix
    seeds = [trial.artifact.record["config"]["training"]["seed"] for trial in trials]
    assert seeds == [seeds[0], seeds[0] + 1] * 2
    assert experiment.mixes.winner.repetition == 0
    assert experiment.mixes.winner.point in experiment.mixes.front or not experiment.mixes.front
    assert "the mean of 2 seeds" in experiment.mixes.reason
    computed = [name for name in platform.computed if name.startswith("sft/own")]
    assert len(computed) == 4
    again, platform = carry_out(*overrides)
    assert [trial.point for trial in again.mixes.trials] == [trial.point for trial in trials]
    assert platform.computed == []


def test_the_page_of_the_data_shows_funnel_tokens_conversations_and_samples(experiment, miniature, tmp_path):
    config = compose_experiment(miniature)
    report = data_report(config, experiment.corpus, experiment.conversations[0], "sea-ray data", "today")
    assert {row.language for row in report.fertility} == {"en", "id", "th"}
    for row in report.fertility:
        assert 0 < row.tokens <= row.bytes
        assert row.documents < row.characters <= row.bytes
    for stage in ("broad", "high_quality"):
        rows = [row for row in report.conversations if row.stage == stage]
        assert sum(row.share for row in rows) == pytest.approx(1)
        assert all(row.conversations > 0 and row.contaminated == row.in_corpus == 0 for row in rows)
    write_data_report(report, tmp_path / "data.html")
    page = (tmp_path / "data.html").read_text(encoding="utf-8")
    for text in ("Cleaning", "near-repeated" if config.corpus.near_duplicate_jaccard else "repeated", "sea-ray data",
                 html.escape(report.samples["th"][0][:40])):
        assert text in page


def test_the_report_shows_what_was_measured(first, miniature, tmp_path):
    experiment, platform = first
    config = compose_experiment(miniature)
    record = {"name": config.name, "overrides": miniature, "config": plain(config), "versions": {"torch": torch.__version__},
              "seconds": 12.0, "peak_memory_bytes": 1 << 30, "machine": "2 cores", "stages": platform.rows,
              "made_at": "2025-01-01T00:00:00+0000"}
    data = report_data(experiment, record)
    assert {row.language for row in data.bits} == {"en", "id", "th"}
    assert {row.arm for row in data.bits} == {"merged neurons", "random neurons, matched per layer",
                                              "full continued pre-training, low rate", "LoRA on all linear layers"}
    assert all(row.change_low <= row.change <= row.change_high for row in data.bits)
    assert [len(sweep.trials) for sweep in data.sweeps] == [2, 2]
    assert sum(trial.is_winner for trial in data.sweeps[0].trials) == 1
    assert len(data.stages) == len(platform.rows)
    assert data.gate is not None
    assert data.gate.passed == experiment.gate.facts["passed"]
    assert len(data.found) + len(data.not_found) >= 3
    assert data.cost.wall_s == 12.0
    write_report(data, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(page) > 20_000
    assert "http://" not in page.replace("http://www.w3.org", "")
