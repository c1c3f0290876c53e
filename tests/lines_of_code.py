"""Lines of code of a folder: no blank lines, comments or docstrings.

python tests/lines_of_code.py worker
"""

import ast
import io
import sys
import tokenize
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def lines_of_code(file: Path) -> int:
    """How many lines of a Python file hold code."""
    text = file.read_text()
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            first = node.body[0]
            docstrings.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


def lines_of_room(folder: Path) -> dict[str, int]:
    """The lines of each room of a package, and of the files beside the rooms."""
    rooms: dict[str, int] = {}
    for file in sorted(folder.rglob("*.py")):
        room = file.relative_to(folder).parts[0]
        rooms[room] = rooms.get(room, 0) + lines_of_code(file)
    return rooms


if __name__ == "__main__":
    rooms = lines_of_room(Path(sys.argv[1]))
    for room, lines in rooms.items():
        print(f"{lines:6} {room}")
    print(f"{sum(rooms.values()):6} in all")
