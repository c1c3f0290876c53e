"""The shipped worker.ini and the table in docs/configuration.md, made from `worker.config`.

`python -m worker.config_text ini > worker.ini` and `python -m worker.config_text table`; a test
checks that both files say what the code does.
"""

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from worker.config import PROJECT, Config

INI_HEAD = """\
# Configuration of the emotion worker: every key and its default. An empty value stands for the
# default. A relative path starts from the folder of this file. Any key can also be given as
# `--set section.key=value` or as the environment variable WORKER_<SECTION>_<KEY>.
"""


def ini() -> str:
    """The text of worker.ini: every section and key, its default, one comment each."""
    lines = [INI_HEAD]
    for section, key, default, comment in _rows():
        if f"[{section}]" not in lines:
            lines += ["", f"[{section}]"]
        lines += [f"# {comment}", f"{key} = {default}".rstrip()]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The same as a Markdown table."""
    lines = ["| key | default | what it is |", "|---|---|---|"]
    for section, key, default, comment in _rows():
        shown = f"`{default}`" if default else "(empty)"
        lines.append(f"| `[{section}] {key}` | {shown} | {comment} |")
    return "\n".join(lines) + "\n"


def _rows() -> list[tuple[str, str, str, str]]:
    rows = []
    for section, section_field in Config.model_fields.items():
        model = section_field.annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        for key, field in model.model_fields.items():
            if field.description:
                rows.append((section, key, _text(field.default), field.description))
    return rows


def _text(default: Any) -> str:
    match default:
        case Path():
            inside = default.is_relative_to(PROJECT)
            return (default.relative_to(PROJECT) if inside else default).as_posix()
        case str() | int() | float():
            return str(default)
        case _:  # None, the empty tuple, or a default that is made at run time
            return ""


if __name__ == "__main__":
    sys.stdout.write({"ini": ini, "table": table}[sys.argv[1]]())
