"""What the report and the model card say about where the data are from."""

from sea_ray.launch.compose import compose_experiment
from sea_ray.model_card import training_data
from sea_ray.provenance import source_rows

FACTS = {"sources": [{"language": code, "source": glob, "documents": 10, "bytes": 500}
                     for code, glob in (("en", "en.txt"), ("id", "id|all.txt"), ("th", "th.txt"))]}
PATHS = ("+corpus.paths={en: [{glob: en.txt, licence: CC0, origin: 'https://example.org'}], id: [{glob: 'id|all.txt'}], "
         "th: [{glob: th.txt, licence: MIT}]}")


def config(miniature):
    return compose_experiment([*miniature, "corpus.source=files", "corpus.root=x", PATHS])


def test_every_source_has_its_licence_origin_and_count(miniature):
    rows = [row for row in source_rows(config(miniature), FACTS) if row.use == "corpus"]
    assert [(row.language, row.name, row.licence, row.origin, row.documents) for row in rows] == [
        ("en", "en.txt", "CC0", "https://example.org", 10), ("id", "id|all.txt", "", "", 10), ("th", "th.txt", "MIT", "", 10)]


def test_conversations_of_both_stages_are_among_them(miniature):
    uses = {row.use for row in source_rows(config(miniature), FACTS) if row.language == "th"}
    assert uses == {"corpus", "SFT, broad", "SFT, high quality"}


def test_the_cards_name_what_nobody_licensed(miniature):
    lines = training_data(source_rows(config(miniature), FACTS))
    assert "| corpus | en | en.txt | CC0 | https://example.org | 10 |" in lines
    assert any("id\\|all.txt | not said | not said" in line for line in lines)
    assert "under which licence these are: id|all.txt." in lines[-1]
