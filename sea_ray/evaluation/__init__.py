"""Figures about a model, each with n and interval: bits per byte, exams, arithmetic, translation, refusal, safety."""

from sea_ray.evaluation.benchmarks import BENCHMARKS, BenchmarkConfig, read_benchmarks
from sea_ray.evaluation.bits_per_byte import bits_per_byte
from sea_ray.evaluation.config import TASKS, EvaluationConfig
from sea_ray.evaluation.demo_suite import demo_number_words, demo_suite
from sea_ray.evaluation.figures import Detail, EvalReport, Figure, wilson
from sea_ray.evaluation.generator import Generator, LogLikelihood, Message
from sea_ray.evaluation.items import (
    ExamQuestion,
    NumberItem,
    RefusalItem,
    SafetyItem,
    Suite,
    TextItem,
    TranslationItem,
)
from sea_ray.evaluation.local import LocalGenerator
from sea_ray.evaluation.number_reading import read_number
from sea_ray.evaluation.remote import HttpGenerator
from sea_ray.evaluation.suite import evaluate

__all__ = [
    "BENCHMARKS",
    "TASKS",
    "BenchmarkConfig",
    "Detail",
    "EvalReport",
    "EvaluationConfig",
    "ExamQuestion",
    "Figure",
    "Generator",
    "HttpGenerator",
    "LocalGenerator",
    "LogLikelihood",
    "Message",
    "NumberItem",
    "RefusalItem",
    "SafetyItem",
    "Suite",
    "TextItem",
    "TranslationItem",
    "bits_per_byte",
    "demo_number_words",
    "demo_suite",
    "evaluate",
    "read_benchmarks",
    "read_number",
    "wilson",
]
