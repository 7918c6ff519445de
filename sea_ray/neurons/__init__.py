"""Language-specific neurons: where they are, how much they matter, which belong to a language, and packs of their new
values."""

from sea_ray.neurons.detection import DetectionConfig, collect_importance, cut_windows
from sea_ray.neurons.diff import diff_models
from sea_ray.neurons.merge import InterferenceReport, MergeRule, merge_packs
from sea_ray.neurons.pack import AppliedPack, LanguagePack, SliceDelta
from sea_ray.neurons.selection import SelectionConfig, random_neurons, select_neurons, stability
from sea_ray.neurons.sets import NeuronSet, OverlapMatrix, jaccard, overlap_matrix
from sea_ray.neurons.sites import SITE_KINDS, Architecture, SiteKind, TensorSlice, describe
from sea_ray.neurons.statistics import ImportanceStats, SiteStatistics
from sea_ray.neurons.untouched import Snapshot, UntouchedProof, prove_untouched, snapshot, tensor_digests

__all__ = [
    "SITE_KINDS",
    "AppliedPack",
    "Architecture",
    "DetectionConfig",
    "ImportanceStats",
    "InterferenceReport",
    "LanguagePack",
    "MergeRule",
    "NeuronSet",
    "OverlapMatrix",
    "SelectionConfig",
    "SiteKind",
    "SiteStatistics",
    "SliceDelta",
    "Snapshot",
    "TensorSlice",
    "UntouchedProof",
    "collect_importance",
    "cut_windows",
    "describe",
    "diff_models",
    "jaccard",
    "merge_packs",
    "overlap_matrix",
    "prove_untouched",
    "random_neurons",
    "select_neurons",
    "snapshot",
    "stability",
    "tensor_digests",
]
