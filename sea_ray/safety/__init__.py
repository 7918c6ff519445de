"""Refusals found in twelve languages, and the gate that a checkpoint passes before it is served."""

from sea_ray.safety.gate import (
    BALANCED_ACCURACY,
    FALSE_REFUSAL_RATE,
    UNSAFE_ANSWER_RATE,
    GateConfig,
    GateResult,
    SafetyConfig,
    check_gate,
)
from sea_ray.safety.refusals import RefusalDetector

__all__ = [
    "BALANCED_ACCURACY",
    "FALSE_REFUSAL_RATE",
    "UNSAFE_ANSWER_RATE",
    "GateConfig",
    "GateResult",
    "RefusalDetector",
    "SafetyConfig",
    "check_gate",
]
