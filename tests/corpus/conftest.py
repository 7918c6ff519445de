import pytest

from sea_ray.corpus.documents import SPLITS, DocumentWriter
from sea_ray.corpus.gather import gather_documents


@pytest.fixture(scope="session")
def gather(tmp_path_factory):
    """Gather documents in a folder of their own."""
    return lambda config, **options: gather_documents(config, tmp_path_factory.mktemp("gathered") / "documents", **options)


@pytest.fixture(scope="session")
def in_memory():
    """Return split -> documents of a language."""
    return lambda documents, code: {split: list(documents.texts(code, split)) for split in SPLITS}


@pytest.fixture(scope="session")
def make_documents(tmp_path_factory):
    """Write texts, language -> split -> documents, as a corpus."""

    def make(texts):
        with DocumentWriter(tmp_path_factory.mktemp("written") / "documents", tuple(texts)) as writer:
            for code, parts in texts.items():
                for split, some in parts.items():
                    writer.append(code, split, some)
            return writer.finish(())

    return make
