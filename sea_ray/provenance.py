"""Where a model's training data are from, and under which licence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sea_ray.config import ExperimentConfig
from sea_ray.report.data import SourceRow


def source_rows(config: ExperimentConfig, corpus_facts: Mapping[str, Any]) -> list[SourceRow]:
    """Return every source of training data; licences and origins are what the configuration says now.

    Args:
        config: the experiment.
        corpus_facts: facts of its corpus, which count what each source gave.
    """
    rows = []
    for code in config.corpus.languages:
        given = [row for row in corpus_facts["sources"] if row["language"] == code]
        for source, counts in zip(config.corpus.provenance(code), given, strict=True):
            rows.append(SourceRow(use="corpus", language=code, name=source.name, licence=source.licence, origin=source.origin,
                                  documents=counts["documents"], bytes=counts["bytes"]))
    for code in config.corpus.languages:
        rows += [SourceRow(use=f"SFT, {source.stage.replace('_', ' ')}", language=code, name=source.name, licence=source.licence,
                           origin=source.origin) for source in config.sft.data.provenance(code)]
    return rows
