"""Stands in for ``unicodedata`` (1.1 MB), which attrs and the codec idna import; host names of ASCII, for which the codec is
asked too, need none of its tables."""

from __future__ import annotations

import sys

unidata_version = "3.2.0"
ucd_3_2_0 = sys.modules[__name__]


def normalize(form: str, text: str) -> str:
    if text.isascii():
        return text
    raise NotImplementedError("this runtime has no tables of Unicode")


def category(letter: str) -> str:
    raise NotImplementedError("this runtime has no tables of Unicode")


def east_asian_width(letter: str) -> str:
    return "N"
