"""A corpus that streams through Ray Data is the corpus that one process makes."""

import pytest

from sea_ray import plan
from sea_ray.artifacts import RECORD, Store
from sea_ray.config import ClusterConfig
from sea_ray.errors import DataError
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.tracking import NullTracker

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        store = Store(str(tmp_path_factory.mktemp("store")))
        with RayPlatform.open(store, NullTracker(), ClusterConfig(num_cpus=2), trains=False) as platform:
            yield platform


@pytest.fixture
def large_text(tmp_path, miniature):
    """Make the corpus stage of files in several languages, with near-duplicates, as one that streams."""
    (tmp_path / "text").mkdir()
    for code, place in (("en", "river"), ("id", "sungai"), ("th", "แม่น้ำ")):
        for number in range(3):
            lines = [f"{i * 7919:x} {place} {i * 104729:x} {code} {i**3:x}" for i in range(number * 150, number * 150 + 200)]
            (tmp_path / "text" / f"{code}{number}.txt").write_text("\n".join([*lines, *(line + "." for line in lines[::9])]))
    paths = "{" + ", ".join(f"{code}: [{{glob: {code}*.txt}}]" for code in ("en", "id", "th")) + "}"
    return lambda: plan.corpus(compose_experiment([
        *miniature, "corpus.source=files", f"corpus.root={tmp_path / 'text'}", f"+corpus.paths={paths}", "corpus.test_frac=0.1",
        "corpus.near_duplicate_jaccard=0.7", "corpus.identify_language=false", "cluster.stream_from_bytes=1"]))


def test_large_text_streams_through_ray_data_to_the_same_files(platform, large_text, tmp_path):
    stage = large_text()
    alone, spread = SoloPlatform(Store(str(tmp_path / "alone"))).run(stage), platform.run(stage)
    assert stage.streams
    assert spread.facts == alone.facts
    assert sum(row["documents_in"] - row["documents_out"] for row in spread.facts["funnel"]) > 200
    files = sorted(file.relative_to(alone.folder) for file in alone.folder.rglob("*") if file.is_file() and file.name != RECORD)
    assert len(files) > 18
    assert all((spread.folder / file).read_bytes() == (alone.folder / file).read_bytes() for file in files)


def test_bad_row_of_a_streamed_file_is_named(platform, large_text, tmp_path):
    (tmp_path / "text" / "th1.txt").write_bytes(b"good\nab\xff\n")
    with pytest.raises(DataError, match=r"th1\.txt:2: byte 0xff at column 3 is not UTF-8"):
        platform.run(large_text())
