"""Streams of datasets that break in the middle, and what a dataset is."""

import gzip
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import datasets
import httpx
import pytest
import requests
import urllib3
from huggingface_hub.errors import HfHubHTTPError

from sea_ray.errors import DataError, MachineError
from sea_ray.hub import dataset_digests, dataset_rows


def read(dataset: str) -> list[tuple[int, dict[str, Any]]]:
    return list(dataset_rows(dataset, name=None, split="train", revision=None, setting="corpus.hub"))


def answer(status: int) -> Any:
    return httpx.Response(status, request=httpx.Request("GET", "https://example.org/file"))


def wrapped() -> Exception:
    error = RuntimeError("could not go on")
    error.__cause__ = requests.exceptions.ReadTimeout("slow")
    return error


@pytest.mark.parametrize("failure", [
    requests.exceptions.ChunkedEncodingError("broken off"), requests.exceptions.ConnectionError(),
    requests.exceptions.JSONDecodeError("no JSON", "", 0), HfHubHTTPError("502 Bad Gateway", response=answer(502)),
    httpx.ReadError("reset"), httpx.StreamConsumed(), aiohttp.ClientPayloadError("incomplete"),
    urllib3.exceptions.ProtocolError("broken"), http.client.IncompleteRead(b""), ConnectionError("Server Disconnected"),
    TimeoutError(), wrapped()], ids=lambda failure: type(failure).__name__)
def test_a_network_that_fails_in_the_middle_is_named_with_dataset_and_row(monkeypatch: pytest.MonkeyPatch,
                                                                         failure: Exception) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield from ({"text": str(number)} for number in range(3))
        raise failure

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows())
    stream = dataset_rows("a/b", name=None, split="train", revision=None, setting="corpus.hub")
    assert [next(stream)[0] for _ in range(3)] == [1, 2, 3]
    with pytest.raises(MachineError, match=rf"dataset a/b: the network or the disk failed at row 4 \({type(failure).__name__}"):
        next(stream)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_file_that_is_not_there_is_the_datasets_fault(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        error = RuntimeError("not there")
        error.__cause__ = HfHubHTTPError(str(status), response=answer(status))
        raise error

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows())
    with pytest.raises(DataError, match=r"dataset a/b: cannot be opened or read at row 2 .*check corpus.hub"):
        read("a/b")


def test_a_file_that_breaks_off_in_the_middle_is_named(tmp_path: Path) -> None:
    rows = "\n".join(json.dumps({"text": f"{number} {hash(number)}"}) for number in range(30_000))
    packed = gzip.compress(rows.encode())
    (tmp_path / "train.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=f"dataset {tmp_path}: cannot be opened or read"):
        read(str(tmp_path))


def test_an_error_of_the_program_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: _broken())
    with pytest.raises(ZeroDivisionError):
        read("a/b")


def _broken() -> Iterator[dict[str, str]]:
    yield {"text": str(1 // 0)}


def test_a_folder_is_its_files_and_an_id_its_revision(tmp_path: Path) -> None:
    (tmp_path / "one/data").mkdir(parents=True)
    (tmp_path / "one/data/train.txt").write_text("text")
    before = dataset_digests(str(tmp_path / "one"), "main", "dataset/en/0")
    assert list(before) == ["dataset/en/0/data/train.txt"]
    (tmp_path / "one").rename(tmp_path / "two")
    assert dataset_digests(str(tmp_path / "two"), None, "dataset/en/0") == before
    (tmp_path / "two/data/train.txt").write_text("other text")
    assert dataset_digests(str(tmp_path / "two"), None, "dataset/en/0") != before
    assert dataset_digests("a/b", "0123abc", "dataset/en/0") == {"dataset/en/0": "a/b@0123abc"}
