"""Compile sources to ``.pyc`` files that are the same whenever and wherever they are made.

Run as a program in an interpreter of its own, since what marshal writes depends on which strings the process happens
to share. Reads ``[[source, destination, filename, docstrings], ...]`` as JSON from standard input, relative
destinations being below the working folder; ``filename`` is what tracebacks will show. The files are unchecked
hash-based ones (PEP 552): no time stamp in them and no look at a source when they are loaded.

Docstrings of other people's code are left out. Those of decorated classes stay: ``dataclass`` would make one up with
``inspect.signature``, which costs more than it saves.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import marshal
import os
import sys


def compile_file(source: str, filename: str, *, docstrings: bool) -> bytes:
    """The contents of a ``.pyc`` for the file ``source``."""
    with open(source, "rb") as file:
        text = file.read()
    tree = ast.parse(text, filename)
    if not docstrings:
        drop_docstrings(tree)
    code = compile(tree, filename, "exec", dont_inherit=True, optimize=0)
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(text)
    return header + marshal.dumps(code)


def drop_docstrings(tree: ast.AST) -> None:
    """Take the docstrings out of ``tree``, in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.decorator_list:
            continue
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                if isinstance(node, ast.Module):
                    first.value.value = ""  # keeps the place of "from __future__", which must come first
                elif len(node.body) > 1:
                    del node.body[0]
                else:
                    node.body[0] = ast.copy_location(ast.Pass(), first)


def main() -> None:
    for source, destination, filename, docstrings in json.load(sys.stdin):
        try:
            os.makedirs(os.path.dirname(destination) or ".", exist_ok=True)
            with open(destination, "wb") as file:
                file.write(compile_file(source, filename, docstrings=docstrings))
        except OSError as error:
            sys.exit(f"{os.strerror(error.errno or 0)}: {os.path.abspath(error.filename or destination)}")


if __name__ == "__main__":
    main()
