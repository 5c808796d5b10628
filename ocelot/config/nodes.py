"""YAML to nodes that know their place and keep the text of every scalar.

PyYAML's own composer is not used, for three reasons. It resolves scalars by YAML 1.1 (``on`` becomes true, ``0644``
becomes 420), it lets the second of two equal keys win in silence, and libyaml's recurses in C: 25,000 nested brackets
end the process beyond any handler, which in PID 1 is a kernel panic. The parsers underneath are sound, so this builds
its own tree from their events, with a stack of its own and limits on depth, size and what aliases expand to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 200_000
"""How many nodes a file may have when every alias is written out."""


class Node:
    """A piece of the file at ``line`` and ``column``, both from 1.

    ``height`` and ``size`` count levels and nodes with aliases written out.
    """

    __slots__ = ("column", "height", "line", "size")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.height = 1
        self.size = 1


class Scalar(Node):
    """``text`` is what stands in the file, or what the quotes hold; ``plain`` means that there are no quotes."""

    __slots__ = ("plain", "text")

    def __init__(self, line: int, column: int, text: str, plain: bool) -> None:
        super().__init__(line, column)
        self.text = text
        self.plain = plain

    @property
    def is_null(self) -> bool:
        """Nothing at all, or one of the words for it (YAML 1.2 core schema, 10.3.2)."""
        return self.plain and self.text in ("", "null", "~", "Null", "NULL")


class Sequence(Node):
    __slots__ = ("items",)

    def __init__(self, line: int, column: int) -> None:
        super().__init__(line, column)
        self.items: list[Node] = []


class Mapping(Node):
    """``entries`` by key, in the order of the file; of duplicate keys, the first."""

    __slots__ = ("entries",)

    def __init__(self, line: int, column: int) -> None:
        super().__init__(line, column)
        self.entries: dict[str, tuple[Scalar, Node]] = {}


class Flaw(Exception):
    """Why a text is not a document. ``also`` is a second place that the flaw is about; ``path`` may be empty."""

    def __init__(self, line: int, column: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.message = message
        self.hint = hint


class Duplicate:
    """A key that a mapping has twice."""

    __slots__ = ("first", "path", "second")

    def __init__(self, path: tuple[str | int, ...], first: Scalar, second: Scalar) -> None:
        self.path = path
        self.first = first
        self.second = second


def decode(data: bytes) -> str:
    """The text of a file. Raises Flaw when it is too large, or not text in UTF-8."""
    if len(data) > MAX_BYTES:
        raise Flaw(0, 0, f"the file has more than {MAX_BYTES} bytes", "check that it is the right file")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Flaw(1, 1, "the file is encoded as UTF-16", "save it as UTF-8")
    if b"\0" in data:
        line, _ = _after(data[: data.index(b"\0")].decode("utf-8", "replace"))
        raise Flaw(line, 0, "the file is binary: it contains a NUL byte", "check that it is the right file")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()  # utf-8-sig would be one more codec to carry
    except UnicodeDecodeError as error:
        line, column = _after(data.removeprefix(b"\xef\xbb\xbf")[: error.start].decode())
        byte = error.object[error.start]
        raise Flaw(line, column, f"byte 0x{byte:02x} is not UTF-8", "save the file as UTF-8") from None
    return text


def _after(text: str) -> tuple[int, int]:
    """Line and column of what follows ``text``, with the line breaks of YAML, of which "\\n" is only one."""
    lines = f"{text}|".splitlines()
    return len(lines), len(lines[-1])


def parse(text: str, *, pure: bool = False) -> tuple[Node | None, list[Duplicate]]:
    """The document's root, None when there is nothing in it, and the duplicate keys. Raises Flaw.

    ``pure`` takes PyYAML's own parser even where libyaml is there.
    """
    parser = None if pure else _c_parser(text)
    if parser is None:
        parser = _pure_parser(text)
    try:
        return _Composer().compose(_events(parser))
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text) from None
    except yaml.reader.ReaderError as error:
        raise _unreadable(error, text) from None
    finally:
        parser.dispose()


def _c_parser(text: str) -> Any:
    try:
        from yaml._yaml import CParser
    except ImportError:  # PyYAML was built without libyaml
        return None
    try:
        return CParser(text)
    except yaml.reader.ReaderError as error:
        raise _unreadable(error, text) from None


def _pure_parser(text: str) -> Any:
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.scanner import Scanner

    class Pure(Reader, Scanner, Parser):
        def __init__(self) -> None:
            Reader.__init__(self, text)
            Scanner.__init__(self)
            Parser.__init__(self)

    try:
        return Pure()
    except yaml.reader.ReaderError as error:
        raise _unreadable(error, text) from None


def _events(parser: Any) -> Iterator[Any]:
    while (event := parser.get_event()) is not None:
        yield event
        if isinstance(event, yaml.StreamEndEvent):
            return


class _Frame:
    """A collection whose end has not come yet. ``key`` is the mapping's key that waits for its value."""

    __slots__ = ("anchor", "key", "node")

    def __init__(self, node: Sequence | Mapping, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: Scalar | None = None

    @property
    def step(self) -> str | int:
        if isinstance(self.node, Sequence):
            return len(self.node.items)
        return self.key.text if self.key else ""


class _Composer:
    def __init__(self) -> None:
        self.stack: list[_Frame] = []
        self.anchors: dict[str, Node | None] = {}  # None: still open
        self.duplicates: list[Duplicate] = []
        self.root: Node | None = None
        self.nodes = 0

    def compose(self, events: Iterator[Any]) -> tuple[Node | None, list[Duplicate]]:
        documents = 0
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                self._finish(self._scalar(event), event.anchor)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._open(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                frame = self.stack.pop()
                self._finish(frame.node, frame.anchor)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _flaw(
                        event, "a second document starts here", 'a file holds one document: remove the "---" line'
                    )
        root = self.root
        if isinstance(root, Scalar) and root.is_null:
            root = None
        return root, self.duplicates

    def _scalar(self, event: Any) -> Scalar:
        plain = not event.style
        if event.tag is not None and event.tag != "!":
            if event.tag != "tag:yaml.org,2002:str":
                raise _tag_flaw(event)
            plain = False
        elif event.tag == "!":
            plain = False
        return Scalar(event.start_mark.line + 1, event.start_mark.column + 1, event.value, plain)

    def _open(self, event: Any) -> None:
        if event.tag is not None and event.tag != "!":
            raise _tag_flaw(event)
        if len(self.stack) >= MAX_DEPTH:
            raise _flaw(event, f"nested more than {MAX_DEPTH} levels deep", "no key of ocelot needs that")
        if self.stack and isinstance(self.stack[-1].node, Mapping) and self.stack[-1].key is None:
            raise _flaw(
                event, "a key must be text, not a list or a mapping", 'quote a text that starts with "{" or "["'
            )
        kind = Mapping if isinstance(event, yaml.MappingStartEvent) else Sequence
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.stack.append(_Frame(kind(event.start_mark.line + 1, event.start_mark.column + 1), event.anchor))

    def _alias(self, event: Any) -> None:
        name = event.anchor
        if name not in self.anchors:
            raise _flaw(
                event, f'there is no anchor "&{name}" above this alias', "quote a text that starts with an asterisk"
            )
        node = self.anchors[name]
        if node is None:
            raise _flaw(event, f'the alias "*{name}" is inside of what it stands for')
        if len(self.stack) + node.height > MAX_DEPTH:
            raise _flaw(event, f'the alias "*{name}" nests more than {MAX_DEPTH} levels deep')
        if isinstance(node, Scalar):
            node = Scalar(event.start_mark.line + 1, event.start_mark.column + 1, node.text, node.plain)
        self._attach(node, event)

    def _finish(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = node
        self._attach(node, None)

    def _attach(self, node: Node, alias: Any) -> None:
        """Put a complete node where it belongs, and count it."""
        self.nodes += node.size if alias is not None else 1
        if self.nodes > MAX_NODES:
            place = (alias.start_mark.line + 1, alias.start_mark.column + 1) if alias else (node.line, node.column)
            raise Flaw(
                place[0],
                place[1],
                f"the file has more than {MAX_NODES} values" + (" when its aliases are written out" if alias else ""),
                "remove aliases that contain aliases" if alias else "check that it is the right file",
            )
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        parent = frame.node
        if isinstance(parent, Mapping) and frame.key is None:
            self._key(frame, node)
            return
        parent.height = max(parent.height, node.height + 1)
        parent.size += node.size
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif isinstance(parent, Mapping) and frame.key is not None:
            key = frame.key
            frame.key = None
            if key.text in parent.entries:
                path = (*(outer.step for outer in self.stack[:-1]), key.text)
                self.duplicates.append(Duplicate(path, parent.entries[key.text][0], key))
            else:
                parent.entries[key.text] = (key, node)

    def _key(self, frame: _Frame, node: Node) -> None:
        if not isinstance(node, Scalar):
            raise Flaw(node.line, node.column, "a key must be text, not a list or a mapping")
        if node.plain and node.text == "<<":
            raise Flaw(
                node.line,
                node.column,
                'merge keys ("<<") are not supported: YAML 1.2 has none',
                "repeat the keys, or use an alias for the whole value",
            )
        frame.node.size += 1
        frame.key = node


def _flaw(event: Any, message: str, hint: str = "") -> Flaw:
    return Flaw(event.start_mark.line + 1, event.start_mark.column + 1, message, hint)


def _tag_flaw(event: Any) -> Flaw:
    tag = event.tag.replace("tag:yaml.org,2002:", "!!")
    return _flaw(event, f'the tag "{tag}" is not supported', "remove it; types follow from the keys")


_INDENTATION = (
    "a key or a list item was expected here",
    "check the quotes and the indentation, here and in the line above",
)
_OUTSIDE = ("text follows after the document", "check the indentation")

# What the two parsers say, by a piece of their words (libyaml's and PyYAML's differ), what it means, and what helps.
_PROBLEMS = (
    ("mapping values are not allowed", "a colon is not allowed here", "check the indentation, or quote the text"),
    ("sequence entries are not allowed", "a list item is not allowed here", "put the list below its key"),
    ("did not find expected key", *_INDENTATION),
    ("did not find expected '-' indicator", *_INDENTATION),
    ("expected <block end>", *_INDENTATION),
    ("could not find expected ':'", "a colon was expected after the key", "write `key: value`, with a space"),
    ("expected node content", "a value was expected here", "put a text that starts with punctuation in quotes"),
    ("expected the node content", "a value was expected here", "put a text that starts with punctuation in quotes"),
    ("alphabetic or numeric", "an anchor or alias has no name", 'put a text that starts with "&" or "*" in quotes'),
    ("expected comment or line break", "unexpected text", 'after "|" or ">" the text starts in the next line'),
    ("expected chomping or indentation", "unexpected text", 'after "|" or ">" the text starts in the next line'),
    ("undefined tag handle", "tags are not supported", 'put a text that starts with "!" in quotes'),
    ("found a tab character", "a tab is used for indentation", "YAML is indented with spaces"),
    ("scanning a tag", "tags are not supported", 'put a text that starts with "!" in quotes'),
    (
        "mapping keys are not allowed",
        "a question mark is not allowed here",
        'put a text that starts with "?" in quotes',
    ),
    ("indentation indicator", "unexpected text", 'after "|" or ">" the text starts in the next line'),
    ("incompatible YAML document", "only YAML 1.1 and 1.2 are understood", "remove the %YAML line"),
    ("found unknown escape character", "unknown escape in double quotes", "double the backslash, or use single quotes"),
    ("expected <document start>", *_OUTSIDE),
    ("expected '<document start>'", *_OUTSIDE),
)
# The same where the beginning of it all is the place to show.
_BEGUN = (
    ("expected ',' or ']'", "this list is not closed", 'add "," or "]"'),
    ("expected ',' or '}'", "this mapping is not closed", 'add "," or "}"'),
    ("unexpected end of stream", "this quoted text is not closed", "add the missing quote"),
    ("scanning a directive", 'a line cannot begin with "%"', "put the text in quotes, or remove the line"),
)


def _explained(error: yaml.MarkedYAMLError, text: str) -> Flaw:
    problem = error.problem or str(error)
    problem += f" {error.context}" if error.context else ""
    for piece, message, hint in _BEGUN:
        if piece in problem and error.context_mark:
            return Flaw(error.context_mark.line + 1, error.context_mark.column + 1, message, hint)
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    if "cannot start any token" in problem:
        lines = text.splitlines()
        letter = lines[line - 1][column - 1 : column] if 0 < line <= len(lines) else ""
        if letter == "\t":
            return Flaw(line, column, "a tab is used for indentation", "YAML is indented with spaces")
        return Flaw(line, column, f'text cannot start with "{letter}"', "put it in quotes")
    if "node content" in problem and mark and not text[mark.index :].strip():
        lines = text.rstrip().splitlines()
        return Flaw(len(lines), len(lines[-1]) + 1, "the file ends too early", "close what is open")
    for piece, message, hint in _PROBLEMS:
        if piece in problem:
            return Flaw(line, column, message, hint)
    return Flaw(line, column, f"not valid YAML: {problem}")


def _unreadable(error: yaml.reader.ReaderError, text: str) -> Flaw:
    letter = error.character if isinstance(error.character, int) else ord(error.character[:1])
    position = text.find(chr(letter))
    line, column = _after(text[: max(position, 0)])
    return Flaw(line, column, f"the control character U+{letter:04X} is not allowed", "remove it")
