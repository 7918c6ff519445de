import bz2
import errno
import gzip
import io
import json
import lzma
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest

from sea_ray.corpus.config import FileSource
from sea_ray.corpus.reading import BadRow, file_format, read_rows
from sea_ray.errors import MachineError


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


def test_what_is_not_text_in_utf8_is_named_and_never_taken_for_text():
    for name, data in (("a.txt", "ภาษา ไทย\nค\n".encode("utf-16-le")), ("a.txt", b"one\0two\n"), ("a.csv", b"text\none\0two\n")):
        found = rows(data, name)
        assert found
        assert all(isinstance(row, BadRow) and "UTF-16" in row.reason for row in found)
    (header,) = rows("text\nx\n".encode("utf-16"), "a.csv")
    assert header.reason == "the header is not UTF-8; re-encode the file"
    assert header.reason.isascii()


def test_deeply_nested_json_is_a_bad_row_like_any_other():
    bad, good = rows(b'{"text": ' + b"[" * 100_000 + b"\n" + b'{"text": "x"}\n', "a.jsonl")
    assert (bad.line, good) == (1, "x")


def test_row_with_many_other_fields_names_some_of_them():
    (bad,) = rows(json.dumps({f"k{number}": "" for number in range(1000)}).encode(), "a.jsonl")
    assert "'k19'] and 980 more" in bad.reason
    assert len(bad.reason) < 300


def test_csv_fields_may_be_long():
    assert rows(b'id,text\n1,"' + b"word " * 100_000 + b'"\n2,y\n', "a.csv") == ["word " * 100_000, "y"]


def test_rows_after_a_malformed_row_of_a_table_are_read():
    quoted, good, extra, last = rows(b'id,text\n1,"a"b\n2,"c\nd"\n3,e,f\n4,g\n', "a.csv")
    assert (quoted.line, extra.line) == (2, 5)
    assert (good, last) == ("c\nd", "g")
    assert "more fields than the header" in extra.reason
    good, unclosed = rows(b'id,text\n1,a\n2,"b\n3,c\n', "a.csv")
    assert (good, unclosed.line) == ("a", 3)


def test_table_whose_header_cannot_be_read_or_names_the_column_twice_is_named():
    (old,) = rows(b"id,text\r1,x\r", "a.csv")
    assert "not readable as a table" in old.reason
    (twice,) = rows(b"text,text\nx,y\n", "a.csv")
    assert "2 columns 'text'" in twice.reason
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([pyarrow.array(["x"])] * 2, names=["text", "text"]), buffer)
    (twice,) = rows(buffer.getvalue(), "a.parquet")
    assert "2 columns 'text'" in twice.reason


def test_parquet_text_that_is_not_utf8_is_a_bad_row():
    offsets = pyarrow.array([0, 3, 6, 9], pyarrow.int32()).buffers()[1]
    column = pyarrow.StringArray.from_buffers(3, offsets, pyarrow.py_buffer(b"abc\xff\xfe\xfddef"))
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), buffer)
    first, bad, last = rows(buffer.getvalue(), "a.parquet")
    assert (first, bad.line, last) == ("abc", 2, "def")


def test_every_string_type_of_parquet_is_text():
    values = pyarrow.array(["x", "y", "x"])
    for column in (values.dictionary_encode(), values.cast(pyarrow.large_string()), values.cast(pyarrow.string_view())):
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), buffer)
        assert rows(buffer.getvalue(), "a.parquet") == ["x", "y", "x"]


def test_xml_element_within_another_of_its_name_is_part_of_that_document():
    assert rows(b"<r><p>a <p>b</p> c</p><p>d</p></r>", "a.xml", field="p") == ["a b c", "d"]
    deep = 50_000
    assert rows(b"<p>" * deep + b"x" + b"</p>" * deep, "a.xml", field="p") == ["x"]


def test_xml_that_was_read_is_not_held_in_memory():
    stream = io.BytesIO(b"<r>" + b"<p>some words</p>" * 200_000 + b"</r>")
    tracemalloc.start()
    assert sum(1 for _ in read_rows(stream, "a.xml", FileSource(glob="*", field="p"))) == 200_000
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10_000_000


@pytest.mark.parametrize("encoding", ["foo-8", "gb2312"])
def test_xml_in_an_encoding_that_cannot_be_read_is_named(encoding):
    (bad,) = rows(f'<?xml version="1.0" encoding="{encoding}"?><r><p>x</p></r>'.encode(), "a.xml", field="p")
    assert "re-encode the file as UTF-8" in bad.reason


def test_xml_bomb_and_outer_files_are_refused():
    bomb = "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 11))
    (bad,) = rows(f'<!DOCTYPE r [<!ENTITY l0 "lol">{bomb}]><r><p>&l10;</p></r>'.encode(), "a.xml", field="p")
    assert "amplification" in bad.reason
    (bad,) = rows(b'<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/hostname">]><r><p>&e;</p></r>', "a.xml", field="p")
    assert "undefined entity" in bad.reason


def test_failure_of_the_disk_is_no_fault_of_the_file():
    class Failing(io.BytesIO):
        def __next__(self):
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(MachineError, match=r"a\.txt: the network or the disk failed"):
        list(read_rows(Failing(b"x"), "a.txt", FileSource(glob="*")))
