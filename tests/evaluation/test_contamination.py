import time

import pytest

from sea_ray.demo import World
from sea_ray.evaluation.contamination import Contamination, HeldOutText
from sea_ray.languages import LANGUAGES


def items_of(texts):
    return [HeldOutText(benchmark="quiz", language="en", item=number, text=text) for number, text in enumerate(texts)]


def passages(code, split, count):
    """Return documents of at least 60 letters, 24 in Chinese, signs left out."""
    least = 30 if code == "zh" else 70
    texts = [" ".join(text.split()) for text in World(1, (code,)).documents(code, split, 5 * count)]
    return [text for text in texts if len(text.replace(" ", "")) >= least][:count]


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_planted_item_is_found_wherever_it_stands(code):
    items = passages(code, "test", 30)
    assert len(items) >= 20
    held_out = Contamination(items_of(items))
    for number, item in enumerate(items):
        assert held_out.find(f"{'x' * number} {item.upper().replace(' ', '  ')} !? y") is not None, item


def test_a_long_part_of_an_item_is_enough_and_a_short_one_is_not():
    item = ("The seven bridges over the northern river were painted blue in the spring of the flood, when the keeper of the mill "
            "had counted every boat.")
    held_out = Contamination(items_of([item]))
    assert held_out.find(f"They say: {item[10:115]}") is not None
    assert held_out.find(f"They say: {item[10:90]}") is None
    assert held_out.find("The seven hills over the southern river were painted red in the autumn of the fire.") is None


def test_a_short_item_counts_as_a_whole_and_a_tiny_one_not_at_all():
    held_out = Contamination(items := items_of(["Where is the oldest lighthouse of all the northern coast?",
                                                "Which of these is true?", "谁写了这本关于大海和山的书并且把它送给了国王？"]))
    assert held_out.find("Quiz: where is the OLDEST lighthouse of all the northern coast? Tell me.") == (
        items[0], "whereistheoldestlighthouseofallthenortherncoast")
    assert held_out.find("Where is the oldest lake of all the northern coast?") is None
    assert held_out.find("Which of these is true?") is None
    assert held_out.find("问题：谁写了这本关于大海和山的书并且把它送给了国王？") is not None
    assert held_out.find("") is None


def test_every_item_of_a_text_is_found_once_with_all_that_have_the_same_words():
    items = ["Where is the oldest lighthouse of all the northern coast?", "谁写了这本关于大海和山的书并且把它送给了国王？",
             "Which of the seven bridges over the river was painted blue?", "Who keeps the mill at the end of the long road?"]
    text = f"{items[2]} {items[1]} {items[0].upper()} {items[2]}"
    held_out = Contamination(items_of([*items, items[1] + "!"]))
    found = [(str(one), passage) for one, passage in held_out.find_all(text)]
    assert sorted(name for name, _ in found) == [f"quiz/en item {number}" for number in (0, 1, 2, 4)]
    assert dict(found)["quiz/en item 0"] == "whereistheoldestlighthouseofallthenortherncoast"
    assert list(held_out.find_all("Nothing of it.")) == []


def test_a_long_document_with_many_near_hits_takes_no_time():
    held_out = Contamination(items_of(f"Which of the following statements about planet number {number} holds?"
                                      for number in range(60)))
    start = time.process_time()
    assert held_out.find("Which of the following statements holds? " * 20_000) is None
    assert time.process_time() - start < 20
