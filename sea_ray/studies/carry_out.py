"""What an experiment is to be: a study, the whole method, or the method up to a stage."""

from __future__ import annotations

from sea_ray.config import ExperimentConfig
from sea_ray.execution import Platform
from sea_ray.pipeline import Detected, Experiment, Swept, Taught, run_experiment, run_part
from sea_ray.studies.neurons import NeuronResults, run_neuron_study
from sea_ray.studies.tuning import TuningResults, run_tuning_study

Results = Detected | Taught | Swept | Experiment | NeuronResults | TuningResults


def carry_out(config: ExperimentConfig, platform: Platform) -> Results:
    """Carry out the study of an experiment if it has one, else its method as far as it is asked for.

    Args:
        config: the experiment.
        platform: where stages are computed.

    Raises:
        SeaRayError: whatever a stage refuses.
    """
    if config.study is None:
        return run_experiment(config, platform) if config.until == "end" else run_part(config, platform)
    return run_neuron_study(config, platform) if config.study.neurons else run_tuning_study(config, platform)
