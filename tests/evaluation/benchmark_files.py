"""Small made-up benchmarks in the formats in which the real ones are published."""

import csv
import json
import random

from sea_ray.languages import LANGUAGES

WORDS = {
    "en": ["river", "market", "boat", "seven", "lamp", "goat", "quiet", "under", "paper", "rain"],
    "th": ["แม่น้ำ", "ตลาด", "เรือ", "เจ็ด", "โคมไฟ", "แพะ", "เงียบ", "ใต้", "กระดาษ", "ฝน"],
    "id": ["sungai", "pasar", "perahu", "tujuh", "lampu", "kambing", "sunyi", "bawah", "kertas", "hujan"],
}


def sentence(rng, code="en", count=6):
    return " ".join(rng.choices(WORDS.get(code, WORDS["en"]), k=count)) + "."


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(text + "\n", encoding="utf-8")


def mgsm(folder, code, count=12, answers=None):
    rng = random.Random(code)
    write_lines(folder / f"mgsm_{code}.tsv", [f"{sentence(rng, code)} {n}?\t{(answers or {}).get(n, n)}" for n in range(count)])


def xcopa(folder, code, count=20):
    rng = random.Random(code)
    write_lines(folder / code / f"test.{code}.jsonl", [
        {"premise": sentence(rng, code), "choice1": sentence(rng, code, 3), "choice2": sentence(rng, code, 3),
         "question": rng.choice(["cause", "effect"]), "label": rng.randrange(2), "idx": n, "changed": False}
        for n in range(count)])


def belebele(folder, code, count=20):
    rng = random.Random(code)
    write_lines(folder / f"{LANGUAGES[code].flores}.jsonl", [
        {"link": f"https://host/{n // 2}", "question_number": 1 + n % 2, "flores_passage": sentence(rng, code, 12),
         "question": sentence(rng, code), **{f"mc_answer{k}": sentence(rng, code, 2) for k in "1234"},
         "correct_answer_num": rng.choice("1234"), "dialect": LANGUAGES[code].flores, "ds": "2023-05-03"} for n in range(count)])


def m3exam(folder, name, count=6, **changes):
    rng = random.Random(name)
    for split, rows in (("test", count), ("dev", 6)):
        exam = [{"question_text": f"{split} {n} {sentence(rng)}", "background_description": [], "answer_text": "ABCD"[n % 4],
                 "options": [f"{letter}. {sentence(rng, count=2)}" for letter in "ABCD"], "need_image": "no", "language": name,
                 "subject_category": ["language", "math"][n % 2], **changes} for n in range(rows)]
        write_lines(folder / f"{name}-questions-{split}.json", [json.dumps(exam, ensure_ascii=False)])


def mmlu(folder, subject, count=8):
    rng = random.Random(subject)
    for split, rows in (("test", count), ("dev", 5)):
        path = folder / split / f"{subject}_{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([f'{split} {n}, "{sentence(rng)}"', *(sentence(rng, count=2) for _ in range(4)),
                                          rng.choice("ABCD")] for n in range(rows))  # fmt: skip


def flores(folder, codes, count=8):
    for code in codes:
        rng = random.Random(code)
        write_lines(folder / "devtest" / f"{LANGUAGES[code].flores}.devtest", [sentence(rng, code) for _ in range(count)])


def sib200(folder, code, count=8):
    rng = random.Random(code)
    write_lines(folder / f"{LANGUAGES[code].flores}.tsv",
                ["index_id\tcategory\ttext", *(f'{n}\ttravel\t{sentence(rng, code)} "{n}"' for n in range(count))])


def global_mmlu(folder, code, rows):
    write_lines(folder / f"global_mmlu_lite_{code}_dev.jsonl", rows)


def global_mmlu_row(label="C", number=0, **changes):
    options = {f"option_{letter}": letter for letter in "abcd"}
    return {"prompts": [{"question": "q?", **options, **changes}], "label": label,
            "metadata": {"sample_id": f"astronomy/dev/{number}", "subject": "astronomy"}}  # fmt: skip


def math(folder):
    for split, numbers in (("test", (3, 4)), ("train", (1, 2))):
        for n in numbers:
            row = {"problem": f"Double {n}.", "level": "Level 1", "type": "Algebra", "solution": f"It is $\\boxed{{{2 * n}}}$."}
            write_lines(folder / split / "algebra" / f"{n}.json", [row])
