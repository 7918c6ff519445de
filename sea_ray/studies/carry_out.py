"""What an experiment is to be: a study, or the whole method."""

from __future__ import annotations

from sea_ray.config import ExperimentConfig
from sea_ray.execution import Platform
from sea_ray.pipeline import Experiment, run_experiment
from sea_ray.studies.neurons import NeuronResults, run_neuron_study
from sea_ray.studies.tuning import TuningResults, run_tuning_study


def carry_out(config: ExperimentConfig, platform: Platform) -> Experiment | NeuronResults | TuningResults:
    """Carry out the study of an experiment if it has one, else its whole method.

    Args:
        config: the experiment.
        platform: where stages are computed.

    Raises:
        SeaRayError: whatever a stage refuses.
    """
    if config.study is None:
        return run_experiment(config, platform)
    return run_neuron_study(config, platform) if config.study.neurons else run_tuning_study(config, platform)
