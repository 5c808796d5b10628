"""How the help of both programs is laid out: lists as they are written, sentences filled to the width of the terminal."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter


class Formatter(RawDescriptionHelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return filled(text, width)


def filled(text: str, width: int) -> str:
    """``text`` in lines of at most ``width`` characters. Indented lines and headings (``keys:``) stay, the others are sentences."""
    from textwrap import wrap

    lines: list[str] = []
    sentences: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line and not line.startswith(" ") and not line.endswith(":"):
            sentences.append(line)
            continue
        lines += [*wrap(" ".join(sentences), width), line]
        sentences.clear()
    return "\n".join(lines[:-1]) + "\n"
