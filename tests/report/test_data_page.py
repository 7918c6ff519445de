from sea_ray.report.data_page import DataReport, FertilityRow, write_data_report


def page_of(tmp_path, own):
    row = FertilityRow(language="my", documents=10, characters=900, bytes=2000, tokens=250, own_tokens_per_byte=own)
    write_data_report(DataReport(experiment="x", made_at="today", command="sea-ray data", funnel=(), corpus=(), fertility=(row,),
                                 conversations=(), sources=()), tmp_path / "data.html")
    return (tmp_path / "data.html").read_text(encoding="utf-8")


def test_what_a_language_took_without_new_pieces_stands_beside_what_it_takes(tmp_path):
    page = page_of(tmp_path, 0.531)
    assert "0.125" in page
    assert "without the new pieces" in page
    assert "0.531" in page


def test_without_new_pieces_nothing_is_said_of_them(tmp_path):
    assert "without the new pieces" not in page_of(tmp_path, None)
