"""Filters and scores that conf/evaluation/tasks names."""

import benchmark_files as public
import pytest

from sea_ray.evaluation.harness import load_tasks
from sea_ray.evaluation.lm_tasks import math_results, numbers

pytest.importorskip("lm_eval")


def test_numbers_are_read_as_their_language_writes_them(tmp_path):
    docs = [{"language": code} for code in ("id", "vi", "en", "th", "my", "km", "lo", "en", "en", "id")]
    texts = ["Jadi 1.234", "là 1.234,0", "so 1,234", "คือ ๑๒๓๔", "၁၂၃၄", "១២៣៤", "໑໒໓໔", "none", "minus: -5", "1.234,5"]
    read = [one for (one,) in numbers([[text] for text in texts], docs)]
    assert read == ["1234"] * 7 + ["no number", "not natural: -5", "not natural: 1234.5"]
    public.mgsm(tmp_path, "id")
    (task,) = load_tasks("mgsm", "id", str(tmp_path))
    assert task.doc_to_text(task.eval_docs[0]).startswith("Soal: ")


def test_solutions_of_math_are_verified_and_shown_after_worked_ones(tmp_path):
    pytest.importorskip("math_verify")
    doc = {"solution": "So $\\boxed{\\frac{1}{2}}$."}
    assert math_results(doc, ["It is $\\frac{2}{4}$."]) == math_results(doc, ["We get 0.5"]) == {"math_verify": 1}
    assert math_results(doc, ["The answer is $3$."]) == math_results(doc, [""]) == {"math_verify": 0}
    public.math(tmp_path)
    (task,) = load_tasks("math", "en", str(tmp_path))
    assert task.doc_to_text(task.eval_docs[0]) == (
        "Problem:\nDouble 1.\n\nSolution: It is $\\boxed{2}$.\n\nProblem:\nDouble 2.\n\nSolution: It is $\\boxed{4}$.\n\n"
        "Problem:\nDouble 3.\n\nSolution:")
