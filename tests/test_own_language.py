"""docs/own_language.md, carried out: its files as they stand there, on a few hundred sentences that are made here."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest

from sea_ray.corpus.identification import is_language, is_written_in
from sea_ray.demo import World
from sea_ray.errors import ConfigError
from sea_ray.evaluation.benchmarks import BenchmarkConfig
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.languages import ADDED, LANGUAGES, TWELVE, Language, language, read_languages
from sea_ray.launch.compose import compose_experiment
from sea_ray.sft.reading import translation
from sea_ray.sft.sources import PairSource

REPO = Path(__file__).resolve().parents[1]
GUIDE = (REPO / "docs" / "own_language.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`(conf/[a-z/]+\.yaml)`:\n\n```yaml\n(.*?)```", GUIDE, re.DOTALL))

SUBJECTS = {"Ang bata": "The child", "Ang maestra": "The teacher", "Ang mangingisda": "The fisher", "Ang babaye": "The woman",
            "Ang akong amahan": "My father", "Ang among silingan": "Our neighbour", "Ang duha ka lalaki": "The two men"}
VERBS = {"mipalit og": "bought", "midala og": "brought", "nangita og": "looked for", "mibaligya og": "sold", "mihatag og": "gave"}
THINGS = {"isda": "fish", "bugas": "rice", "mga prutas": "fruit", "tubig": "water", "karne": "meat", "mga libro": "books"}
PLACES = {"sa merkado": "at the market", "sa balay": "at home", "sa baybayon": "on the shore", "sa eskwelahan": "at school"}
TIMES = {"kagahapon": "yesterday", "karong buntaga": "this morning", "kaganihang udto": "at noon"}
CEBUANO = Language(code="ceb", name="Cebuano", script="LATIN", flores="ceb_Latn", identified_as=("tl",))

CARRY_OUT = """
import json, sys
from sea_ray import plan
from sea_ray.artifacts import Store
from sea_ray.evaluation.figures import EvalReport
from sea_ray.evaluation.number_reading import read_number
from sea_ray.evaluation.tables import tables
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment
from sea_ray.report.labels import language_heading

config = compose_experiment(sys.argv[1:])
platform = SoloPlatform(Store(config.store.url))
corpus = platform.run(plan.corpus(config))
base = platform.run(plan.base(config, corpus))
statistics = platform.run(plan.detection(config, base, corpus))
packs = platform.run(plan.neurons(config, base, corpus, statistics))
merged = platform.run(plan.merged(base, packs))
conversations = platform.run(plan.conversations(config, corpus))
evaluation = platform.run(plan.evaluation(config, "merged", merged, corpus, chat=False))
gate = platform.run(plan.gate(config, merged, evaluation))
figures = [[figure.task, figure.language] for figure in EvalReport.load(evaluation.folder).figures]
table = next(table for table in tables([EvalReport.load(evaluation.folder)]) if table.metric == "bits_per_byte")
print(json.dumps({"rows": table.rows, "numbers": [str(read_number("1.234", code)) for code in ("ceb", "su", "id")],
                  "heading": str(language_heading("ceb")),
                  "inputs": plan.corpus(config).inputs, "funnel": corpus.facts["funnel"], "sizes": corpus.facts["sizes"],
                  "packs": packs.facts, "merged": str(merged.folder),
                  "conversations": conversations.facts, "figures": figures, "gate": gate.facts}))
"""


def made_sentences(count: int) -> list[tuple[str, str]]:
    """Return different sentences in Cebuano and in English."""
    parts = [list(part.items()) for part in (SUBJECTS, VERBS, THINGS, PLACES, TIMES)]
    made = [tuple(f"{' '.join(side)}." for side in zip(*words, strict=True)) for words in product(*parts)]
    return random.Random(0).sample(made, count)


def write(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory, miniature_sizes):
    """What the guide's experiment makes, to the gate, in a process that knows Cebuano by its configuration alone."""
    folder = tmp_path_factory.mktemp("ceb")
    text, conf = folder / "text", folder / "conf"
    shutil.copytree(REPO / "conf", conf)
    for name, content in FILES.items():
        (folder / name).write_text(content, encoding="utf-8")
    with (conf / "languages.yaml").open("a") as file:
        file.write("su: {name: Sundanese, script: LATIN, decimal_comma: true}\n")
    sentences, world = made_sentences(400), World(0, ("en", "tl"))
    own = [own for own, _ in sentences]
    write(text / "ceb.txt", [*own[:300], "ตลาดเปิดหกโมงเช้า และเรือกลับมาก่อนเที่ยงของทุกวัน",
                               "The market opens at six, and the boats come back before noon."])
    for code in ("en", "tl"):
        write(text / f"{code}.txt", world.documents(code, "train", 200))
    write(text / "pairs" / "ceb.txt", own[300:])
    write(text / "pairs" / "en.txt", [english for _, english in sentences[300:]])
    write(text / "sft" / "ceb.jsonl", [json.dumps({"prompt": f"Unsay nahitabo {n}?", "response": line})
                                      for n, line in enumerate(own[300:360])])
    done = subprocess.run(
        [sys.executable, "-c", CARRY_OUT, "experiment=ceb", f"corpus.root={text}", f"store.url={folder / 'runs'}",
         "corpus.near_duplicate_jaccard=0", *miniature_sizes],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPO), "SEA_RAY_CONF": str(conf), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def miniature_sizes(miniature):
    """The sizes of the miniature experiment without its languages, mixes and demo text."""
    others = ("experiment", "name", "corpus", "neurons.languages", "neurons.controls", "sweep", "sft.mix", "~", "+")
    return [override for override in miniature if not override.startswith(others)]


def test_the_guide_has_the_files_that_the_test_carries_out():
    assert set(FILES) == {"conf/languages.yaml", "conf/experiment/ceb.yaml"}


def test_text_of_an_added_language_is_cleaned_and_what_is_in_another_is_dropped(carried_out):
    sizes, funnel = carried_out["sizes"], {(row["language"], row["step"]): row for row in carried_out["funnel"]}
    assert all(sizes["ceb"][split]["documents"] for split in ("train", "validation", "test"))
    step = funnel["ceb", "identify"]
    assert (step["documents_in"], step["documents_out"]) == (302, 300)


def test_neurons_of_an_added_language_are_trained_and_merged(carried_out):
    assert carried_out["packs"]["gain_sea"] == pytest.approx(
        1 - sum(carried_out["packs"][f"ratio_{code}"] for code in ("tl", "ceb")) / 2)
    assert (Path(carried_out["merged"]) / "model.safetensors").is_file()


def test_it_stands_in_tables_and_pages_by_its_name(carried_out):
    assert carried_out["rows"] == ["en", "tl", "ceb", "mean"]
    assert "Cebuano" in carried_out["heading"]
    assert "Sinugboanon" in carried_out["heading"]


def test_its_numbers_are_read_as_it_is_said(carried_out):
    assert carried_out["numbers"] == ["1.234", "1234", "1234"]


def test_its_definition_is_part_of_the_results_identity(carried_out):
    assert "language/ceb" in carried_out["inputs"]
    assert not [name for name in carried_out["inputs"] if name.startswith("language/") and name != "language/ceb"]


def test_its_conversations_are_taught_and_a_part_is_held_out(carried_out):
    facts = carried_out["conversations"]
    taught, held_out = (facts[part]["conversations"]["ceb"] for part in ("high_quality", "validation_high_quality"))
    assert taught + held_out == 60
    assert 1 <= held_out <= 15


def test_what_was_not_measured_is_said_to_be_missing(carried_out):
    tasks = {code: {task for task, measured in carried_out["figures"] if measured == code} for code in ("tl", "ceb")}
    assert tasks["ceb"] == {"text"}
    assert {"text", "exam", "refusal", "safety_general"} <= tasks["tl"]
    assert "ceb: balanced_accuracy was not measured, at least 0.75 is needed" in carried_out["gate"]["reasons"]


@pytest.fixture
def add(monkeypatch):
    def add(language):
        for known in (ADDED, LANGUAGES):
            monkeypatch.setitem(known, language.code, language)

    return add


@pytest.fixture
def cebuano(add):
    add(CEBUANO)


def test_a_related_language_is_told_by_what_identification_takes_it_for(cebuano):
    judged = [sentence for sentence, _ in made_sentences(200)]
    assert sum(is_language(sentence, "ceb") for sentence in judged) >= 190
    assert not is_language("The market opens at six, and the boats come back before noon.", "ceb")
    assert not is_language("ตลาดเปิดหกโมงเช้า และเรือกลับมาก่อนเที่ยง", "ceb")


def test_without_a_word_on_identification_the_script_decides(add):
    add(Language(code="ban", name="Balinese", script="BALINESE", flores="ban_Bali"))
    assert is_written_in("ᬅᬓ᭄ᬱᬭᬩᬮᬶ", "ban")
    assert not is_written_in("Aksara Bali", "ban")


def test_a_label_that_identification_lacks_is_refused(add):
    add(Language(code="su", name="Sundanese", script="LATIN", flores="sun_Latn", identified_as=("sun",)))
    with pytest.raises(ConfigError, match="identified_as: language identification has no 'sun'"):
        is_language("Barudak keur arulin di buruan imah.", "su")


def test_an_added_language_has_no_demo_world_and_says_so(cebuano):
    with pytest.raises(ConfigError, match="demo world does not speak 'ceb'; set source to files or hub"):
        compose_experiment(["experiment=demo", "corpus.languages=[en,tl,ceb]"])
    with pytest.raises(ConfigError, match="does not speak 'ceb': it has no words, questions or refusals"):
        World(0, ("en", "ceb")).phrases("ceb")


def test_a_stage_that_teaches_nothing_in_it_is_refused_at_once(cebuano):
    with pytest.raises(ConfigError, match=r"sft\.data\.broad: nothing is taught in 'ceb'"):
        compose_experiment(["experiment=own_text", "corpus.root=x", "corpus.languages=[en,ceb]", "neurons.languages=[ceb]",
                            "+corpus.paths.ceb=[{glob: ceb.txt}]"])


def test_a_translation_is_asked_for_in_the_words_of_the_other_language(cebuano):
    there = translation("en", "ceb", "The child bought fish.", "Ang bata mipalit og isda.", language="ceb")
    back = translation("ceb", "en", "Ang bata mipalit og isda.", "The child bought fish.", language="ceb")
    assert there.messages[0].content == "Translate into Cebuano: The child bought fish."
    assert back.messages[0].content == "Translate into English: Ang bata mipalit og isda."
    with pytest.raises(ConfigError, match="both added languages"):
        PairSource(source="ceb", target="ceb", format="lines", paths=("a", "b"))


def test_a_line_among_a_benchmarks_tasks_asks_it_in_the_language(cebuano, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval")
    from sea_ray.evaluation import harness

    (line,) = re.findall(r"`(- \{task: sib200_ceb.*?)`", GUIDE)
    tasks = (REPO / "conf" / "evaluation" / "tasks" / "sib200.yaml").read_text(encoding="utf-8").rstrip()
    write(tmp_path / "sib200.yaml", [tasks, f"  {line}"])
    write(tmp_path / "ceb_Latn.tsv", ["index_id\tcategory\ttext", "1\tscience\tAng bata mipalit og isda."])
    assert harness.load_tasks("sib200", "ceb", str(tmp_path)) == []
    benchmarks = BenchmarkConfig(root=str(tmp_path), files={"sib200": "."})
    engine = SimpleNamespace(tokenizer=SimpleNamespace(chat_template=None), max_tokens=512)
    asked = EvaluationConfig(languages=("ceb",), tasks=("text",), prompting="plain")
    with pytest.raises(ConfigError, match=r"there are rows in 'ceb', and .*sib200\.yaml has no line that asks them"):
        harness.evaluate_benchmarks(engine, benchmarks, asked)
    monkeypatch.setattr(harness, "task_folder", lambda: tmp_path)
    (task,) = harness.load_tasks("sib200", "ceb", str(tmp_path))
    assert [row["text"] for row in task.eval_docs] == ["Ang bata mipalit og isda."]


def test_the_defaults_stay_the_twelve(cebuano):
    assert compose_experiment(["experiment=demo"]).corpus.languages == tuple(TWELVE)
    assert len(TWELVE) == 12
    assert language("ceb").name == "Cebuano"


@pytest.mark.parametrize(("lines", "said"), [
    ("th: {name: Thai, script: THAI}", "th: it is one of the twelve"),
    ("Ceb: {name: Cebuano, script: LATIN}", "Ceb: a code has 2 to 8 small letters"),
    ("ceb: {name: Cebuano}", "ceb.script: missing"),
    ("ceb: {name: Cebuano, script: LATTIN}", "ceb.script: no letter's Unicode name begins with 'LATTIN'"),
    ("ceb: {name: Cebuano, script: LATIN, scripts: x}", "ceb.scripts: unknown key; did you mean script"),
    ("ceb: Cebuano", "ceb: 'Cebuano' is str, a mapping is needed"),
    ("ceb: {name: [", "while parsing"),
])
def test_a_wrong_definition_is_refused_with_its_file_and_place(tmp_path, lines, said):
    file = tmp_path / "languages.yaml"
    file.write_text(lines, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_languages(file)
    assert str(caught.value).startswith(f"{file}: {said}")


def test_the_configuration_that_is_shipped_adds_none():
    assert read_languages(REPO / "conf" / "languages.yaml") == {}
