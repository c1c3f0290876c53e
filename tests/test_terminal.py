"""What a person sees on a terminal and what a pipe reads."""

import sys

import pytest

from worker.terminal import safe, show_table

ROWS = [("a.png", "1: anger 0.70"), ("b\x1b[31m.png", "no face")]
HARMLESS = "b\N{REPLACEMENT CHARACTER}[31m.png"


def test_a_pipe_reads_one_plain_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("file", "faces"), ROWS)
    assert capsys.readouterr().out == f"a.png\t1: anger 0.70\n{HARMLESS}\tno face\n"
    show_table(("file", "faces"), ROWS, heading=True)
    assert capsys.readouterr().out.startswith("file\tfaces\na.png\t")


def test_a_terminal_shows_aligned_columns_and_no_value_changes_its_colours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_table(("file", "faces"), ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "file        faces",
        "a.png       1: anger 0.70",
        f"{HARMLESS}  no face",
    ]


def test_control_characters_and_line_ends_become_visible() -> None:
    assert safe("grüße 笑.png") == "grüße 笑.png"
    assert all(c.isprintable() for c in safe("a\r\n\t\x00\x7f\u202eb"))
