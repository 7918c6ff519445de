"""Where a model's training data are from, under which licence, and the model card that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

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


def model_card(config: ExperimentConfig, corpus_facts: Mapping[str, Any], gate: Mapping[str, Any], winner: str) -> str:
    """Return the card of the winner as Hugging Face writes them: Markdown under a YAML header.

    Args:
        config: the experiment.
        corpus_facts: facts of its corpus.
        gate: facts of its safety gate.
        winner: settings that won, in words.
    """
    rows = source_rows(config, corpus_facts)
    base = config.model.checkpoint
    header = ModelCardData(language=list(config.corpus.languages), base_model=base, library_name="transformers",
                           pipeline_tag="text-generation", tags=["sea_ray"],
                           datasets=sorted({row.name for row in rows if row.origin.startswith("Hugging Face")}) or None)
    unknown = sorted({row.name for row in rows if not row.licence})
    return "\n".join([
        "---", header.to_yaml(), "---", f"# {config.name}", "",
        f"Made by sea_ray from {base or 'a small Qwen2 that was trained from scratch on the corpus'}: the language-specific "
        f"neurons of {', '.join(config.neurons.languages)} were trained alone, then it was fine-tuned in two stages. "
        f"Winner: {winner}.", "",
        "Safety gate: " + ("passed." if gate["passed"] else "FAILED. " + "; ".join(gate["reasons"]) + "."), "",
        "## Training data", "",
        "| use | language | source | licence | from | documents |", "|---|---|---|---|---|---|", *map(_line, rows), "",
        f"Nobody said under which licence these are: {', '.join(unknown)}." if unknown else "Every source names its licence.",
        ""])


def _line(row: SourceRow) -> str:
    cells: Sequence[str] = (row.use, row.language, row.name, row.licence or "not said", row.origin or "not said",
                            "" if row.documents is None else f"{row.documents:,}")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
