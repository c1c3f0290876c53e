"""What a person sees on a terminal and what a pipe reads."""

import io

from rich.console import Console

from worker.terminal import safe, show_table

ROWS = [("a.png", "[red]1: anger 0.70"), ("b\x1b[31m.png", "no face")]


def test_a_pipe_reads_one_plain_line_a_row() -> None:
    output = io.StringIO()
    show_table("title", ("file", "faces"), ROWS, Console(file=output))
    assert output.getvalue() == (
        "a.png\t[red]1: anger 0.70\nb\N{REPLACEMENT CHARACTER}[31m.png\tno face\n"
    )


def test_a_terminal_shows_a_table_and_no_value_changes_its_colours() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80)
    show_table("title", ("file", "faces"), ROWS, console)
    assert "title" in output.getvalue()
    assert "[red]1: anger 0.70" in output.getvalue()
    assert "\x1b[31m" not in output.getvalue()


def test_control_characters_and_line_ends_become_visible() -> None:
    assert safe("grüße 笑.png") == "grüße 笑.png"
    assert all(c.isprintable() for c in safe("a\r\n\t\x00\x7f\u202eb"))
