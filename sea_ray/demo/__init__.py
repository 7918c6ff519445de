"""The embedded world: text, pairs, instructions and exams in twelve languages from one seed."""

from sea_ray.demo.dialogues import HELPFUL_KINDS, KINDS, SAFETY_KINDS, Dialogue, Kind, PhraseBook
from sea_ray.demo.exams import LETTERS, ExamItem
from sea_ray.demo.lexicon import Lexicon, load_lexicon
from sea_ray.demo.splits import SPLITS, Split
from sea_ray.demo.world import World

__all__ = [
    "HELPFUL_KINDS",
    "KINDS",
    "LETTERS",
    "SAFETY_KINDS",
    "SPLITS",
    "Dialogue",
    "ExamItem",
    "Kind",
    "Lexicon",
    "PhraseBook",
    "Split",
    "World",
    "load_lexicon",
]
