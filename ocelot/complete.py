"""Shell completions for ``ocelot`` and ``ocelotctl``, generated from their argparse trees; process names are asked for live.

shtab knows no way to complete from a running program in all three shells, so the scripts are made here: each holds the
tree as data, and a few lines that walk the words typed so far down that tree.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SHELLS = ("bash", "zsh", "fish")

_SIGNALS = "HUP INT QUIT KILL USR1 USR2 TERM CONT STOP WINCH"
_NAMES, _FILES = "@names", "@files"
_FILE_METAVARS = frozenset(("FILE", "PATH", "DIR", "SRC", "SRC[:DEST]"))


@dataclass(frozen=True)
class Option:
    """``value``: what follows it: @names, @files, words to choose from, or None if nothing does."""

    strings: tuple[str, ...]
    value: str | None
    help: str


@dataclass(frozen=True)
class Command:
    """``path`` are the words that lead here, without the program's name.

    ``positionals``, as ``Option.value``: what may stand in the first place, and what in the second and all after it.
    """

    path: str
    help: str
    commands: tuple[tuple[str, str], ...]
    options: tuple[Option, ...]
    positionals: tuple[str, str]


def script(shell: str, trees: Mapping[str, argparse.ArgumentParser]) -> str:
    """What to source in ``shell`` (bash, zsh or fish) to complete the programs of these names."""
    write = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return "".join(write(program, tuple(_walk(parser, ""))) for program, parser in trees.items())


def _walk(parser: argparse.ArgumentParser, path: str, help: str = "") -> Iterator[Command]:
    """The command at ``path`` and all below it."""
    commands: list[tuple[str, str]] = []
    below: list[Command] = []
    options = []
    positionals = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, sub in action.choices.items():
                commands.append((name, summaries.get(name, "")))
                below += _walk(sub, f"{path} {name}".strip(), summaries.get(name, ""))
                if name == "run":  # it is meant where no command is given, and then its options stand here
                    options += [_option(each) for each in sub._actions if each.option_strings and each.dest != "help"]
        elif action.option_strings:
            options.append(_option(action))
        else:
            positionals.append(_value(action))
    first = positionals[0] if positionals else ""
    yield Command(path, help, tuple(commands), tuple(options), (first, positionals[1] if positionals[1:] else first))
    yield from below


def _option(action: argparse.Action) -> Option:
    return Option(tuple(action.option_strings), _value(action) if action.nargs != 0 else None, action.help or "")


def _value(action: argparse.Action) -> str:
    if action.choices is not None:
        return " ".join(str(choice) for choice in action.choices)
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if metavar == "NAME":
        return _NAMES
    if metavar == "SIGNAL":
        return _SIGNALS
    return _FILES if metavar in _FILE_METAVARS or action.nargs == argparse.REMAINDER else ""


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# -- bash and zsh: the same walk, with other words for what they have typed and how they answer

_WALK = """\
    local at="" word last="" value=""
    local -i count=0
    for word in "${{typed[@]}}"; do
        case "$at:$last" in
{skips}
        esac
        last="$word"
        case "$at $word" in
{steps}
            *" -"*) ;;
            *) count+=1 ;;
        esac
    done
    case "$at:$previous" in
{values}
    esac
    if [ -z "$value" ]; then
        case "$at" in
{words}
        esac
    fi
"""


def _cases(commands: tuple[Command, ...]) -> str:
    steps = []
    skips = []
    values = []
    words = []
    for command in commands:
        for name, _ in command.commands:
            path = f"{command.path} {name}".strip()
            steps.append(f"        {_quote(f'{command.path} {name}')}) at={_quote(path)}; count=0 ;;")
        for option in command.options:
            if option.value is not None:
                names = "|".join(_quote(f"{command.path}:{string}") for string in option.strings)
                skips.append(f'        {names}) last=""; continue ;;')
            if option.value:
                names = "|".join(_quote(f"{command.path}:{string}") for string in option.strings)
                values.append(f"        {names}) value={_quote(option.value)} ;;")
        # A dash shows the options, anything else what may stand there
        below = " ".join([name for name, _ in command.commands])
        first, second = (below, below) if below else command.positionals
        dashes = " ".join(string for option in command.options for string in option.strings)
        words.append(
            f'            {_quote(command.path)}) case "$current" in -*) value={_quote(dashes)} ;; '
            f"*) if ((count)); then value={_quote(second)}; else value={_quote(first)}; fi ;; esac ;;"
        )
    none = "        *) ;;"
    return _WALK.format(
        steps="\n".join(steps or [none]),
        skips="\n".join(skips or [none]),
        values="\n".join(values or [none]),
        words="\n".join(words or [none]),
    )


def _bash(program: str, commands: tuple[Command, ...]) -> str:
    return f"""\
# bash completion for {program}
_{program}_complete() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
    local -a typed=("${{COMP_WORDS[@]:1:COMP_CWORD-1}}")
{_cases(commands)}\
    case "$value" in
        @names) value="$(ocelotctl __complete names "${{typed[@]}}" 2>/dev/null)" ;;
        @files) COMPREPLY=($(compgen -f -- "$current")); compopt -o filenames 2>/dev/null; return ;;
    esac
    COMPREPLY=($(compgen -W "$value" -- "$current"))
}}
complete -F _{program}_complete {program}
"""


def _zsh(program: str, commands: tuple[Command, ...]) -> str:
    return f"""\
# zsh completion for {program}
_{program}_complete() {{
    local current="${{words[CURRENT]}}" previous="${{words[CURRENT-1]}}"
    local -a typed=("${{(@)words[2,CURRENT-1]}}")
{_cases(commands)}\
    case "$value" in
        @names) compadd -- ${{(f)"$(ocelotctl __complete names "${{typed[@]}}" 2>/dev/null)"}} ;;
        @files) _files ;;
        *) compadd -- ${{=value}} ;;
    esac
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef _{program}_complete {program}
"""


# -- fish


def _fish(program: str, commands: tuple[Command, ...]) -> str:
    lines = [
        f"# fish completion for {program}",
        f"function __{program}_at",
        "    # Whether the words typed so far lead to exactly this command, and to this place: first, later, or any",
        "    set -l at",
        "    set -l last",
        "    set -l place first",
        "    for word in (commandline -opc)[2..]",
        '        switch "$at:$last"',
        *(
            f"            case {' '.join(_fish_quote(f'{command.path}:{each}') for each in option.strings)}; set last; continue"
            for command in commands
            for option in command.options
            if option.value is not None
        ),
        "        end",
        '        set last "$word"',
        '        switch "$at $word"',
    ]
    for command in commands:
        for name, _ in command.commands:
            path = f"{command.path} {name}".strip()
            lines.append(f"            case {_quote(f'{command.path} {name}')}; set at {_quote(path)}; set place first")
    lines += ["            case '* -*'", "            case '*'; set place later", "        end", "    end"]
    lines += ['    test "$at" = "$argv[1]"; and contains -- "$argv[2]" "" $place', "end", f"complete -c {program} -f"]
    for command in commands:
        lines += _fish_command(program, command)
    return "\n".join(lines) + "\n"


def _fish_command(program: str, command: Command) -> Iterator[str]:
    start = f"complete -c {program} -n {_fish_quote(f'__{program}_at {_fish_quote(command.path)}')}"
    for name, help in command.commands:
        yield f"{start} -a {_fish_quote(name)} -d {_fish_quote(help)}"
    for place, value in zip(("first", "later"), command.positionals, strict=True):
        if value:
            condition = _fish_quote(f"__{program}_at {_fish_quote(command.path)} {place}")
            yield f"complete -c {program} -n {condition}" + _fish_value(value)
    for option in command.options:
        line = start
        for string in option.strings:
            line += f" -l {string[2:]}" if string.startswith("--") else f" -s {string[1:]}"
        if option.value is not None:
            line += (" -r" if option.value == _FILES else " -x") + _fish_value(option.value)
        yield f"{line} -d {_fish_quote(option.help.replace('%%', '%'))}"


def _fish_value(value: str) -> str:
    if value == _NAMES:
        return " -a '(ocelotctl __complete names (commandline -opc) 2>/dev/null)'"
    if value == _FILES:
        return " -F"
    return f" -a {_fish_quote(value)}" if value else ""


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
