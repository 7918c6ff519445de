import bz2
import gzip
import io
import lzma

import pyarrow
import pyarrow.parquet
import pytest

from sea_ray.corpus.config import FileSource
from sea_ray.corpus.reading import BadRow, file_format, read_rows


def rows(data: bytes, name: str, **options):
    return list(read_rows(io.BytesIO(data), name, FileSource(glob=name, **options)))


def test_plain_text_is_read_by_line_paragraph_or_file():
    data = "แมว\nหมา\n\nนก\n".encode()
    assert rows(data, "a.txt") == ["แมว", "หมา", "", "นก"]
    assert rows(data, "a.txt", unit="paragraph") == ["แมว\nหมา", "นก"]
    assert rows(data, "a.txt", unit="file") == ["แมว\nหมา\n\nนก"]


def test_byte_order_mark_and_windows_line_ends_are_no_text():
    assert rows(b"\xef\xbb\xbfone\r\ntwo\r\n", "a.txt") == ["one", "two"]


def test_undecodable_line_is_named_with_its_line_and_column():
    (good, bad, after) = rows(b"good\nab\xff\nafter\n", "a.txt")
    assert (good, after) == ("good", "after")
    assert (bad.line, bad.num_bytes) == (2, 4)
    assert "0xff at column 3" in bad.reason


def test_paragraph_with_an_undecodable_line_is_no_document():
    first, last = rows(b"a\n\xff\nb\n\nc\n", "a.txt", unit="paragraph")
    assert isinstance(first, BadRow)
    assert last == "c"


def test_jsonl_rows_that_are_malformed_or_lack_the_field_are_named():
    data = b'{"text": "x"}\n{"text": \n\n[1]\n{"txt": "x"}\n{"text": 5}\n'
    good, *bad = rows(data, "a.jsonl")
    assert good == "x"
    assert [row.line for row in bad] == [2, 4, 5, 6]
    assert "not valid JSON" in bad[0].reason
    assert "found list" in bad[1].reason
    assert "no field 'text'; the row has ['txt']" in bad[2].reason
    assert "holds int" in bad[3].reason


def test_csv_fields_keep_their_quotes_and_line_breaks_and_tsv_has_no_quoting():
    assert rows(b'id,jv\n1,"a, ""b""\nc"\n', "a.csv", field="jv") == ['a, "b"\nc']
    assert rows(b'id\ttext\n1\t"a" b\n', "a.tsv") == ['"a" b']


def test_table_without_the_column_and_undecodable_fields_are_named():
    (missing,) = rows(b"id,en\n1,x\n2,y\n", "a.csv")
    assert missing.line == 1
    assert "['id', 'en']" in missing.reason
    (bad,) = rows(b"id,text\n1,\xffx\n", "a.csv")
    assert bad.line == 2
    assert "UTF-8" in bad.reason


def test_parquet_rows_null_values_and_a_broken_file():
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["ມື້", None]}), buffer)
    good, null = rows(buffer.getvalue(), "a.parquet")
    assert good == "ມື້"
    assert null.line == 2
    (column,) = rows(buffer.getvalue(), "a.parquet", field="body")
    assert "['text']" in column.reason
    (broken,) = rows(b"PAR1nonsense", "a.parquet")
    assert "Parquet" in broken.reason


def test_xml_elements_of_any_namespace_are_documents():
    data = '<udhr xmlns="http://x/"><note><para>ခ <b>ဂ</b></para></note><para>င</para></udhr>'.encode()
    assert rows(data, "a.xml", field="para") == ["ခ ဂ", "င"]
    (none,) = rows(data, "a.xml", field="p")
    assert "no element <p>" in none.reason
    *_, broken = rows(b"<a><para>x</para>\n</b></a>", "a.xml", field="para")
    assert broken.line == 2


def test_truncated_gzip_gives_its_readable_lines_and_says_that_the_rest_is_lost():
    packed = gzip.compress("\n".join(f"line {i} {i * 7919}" for i in range(20000)).encode())
    with gzip.open(io.BytesIO(packed[: len(packed) // 2])) as stream:
        *good, bad = read_rows(stream, "a.txt.gz", FileSource(glob="*"))
    assert good[0] == "line 0 0"
    assert "truncated or damaged" in bad.reason


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_damaged_archives_of_every_kind_are_bad_rows(module):
    packed = bytearray(module.compress(b"some text\n" * 5000))
    packed[len(packed) // 2 :] = b"\0" * 9
    *_, bad = read_rows(module.open(io.BytesIO(bytes(packed))), "a.txt", FileSource(glob="*"))
    assert isinstance(bad, BadRow)


def test_format_is_the_ending_before_a_compression():
    assert file_format("x/en-id.v2.jsonl.gz") == ".jsonl"
    assert file_format("x.txt") == ".txt"
    assert file_format("x.docx") == file_format("noending") == file_format("x.txt.docx") == ""
