# SPDX-License-Identifier: Apache-2.0
"""`tracer completion`: what a shell needs to complete the command line."""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tracer.cli.describing import Command, Parameter

_NOTHING = "''"


class Shell(StrEnum):
    """Which shell."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="Which shell it is for.", show_default=False)],
) -> None:
    """Print what a shell needs to complete commands, options and values.

    It is all in the text: nothing of the tracer runs at a press of the key, as
    root or not, with sudo before it or not. `make install` puts it where the
    shells of all users look for it. For your own shell alone:

    bash: tracer completion bash > ~/.local/share/bash-completion/completions/tracer

    zsh: tracer completion zsh > _tracer, in a directory of $fpath

    fish: tracer completion fish > ~/.config/fish/completions/tracer.fish
    """
    from tracer.cli.describing import describe
    from tracer.cli.main import app

    commands = describe(app)
    print({Shell.bash: bash, Shell.zsh: zsh, Shell.fish: fish}[shell](commands), end="")


def bash(commands: "Sequence[Command]") -> str:
    """For bash 4.4 and later, with or without the package bash-completion."""
    commands = _by_first_word(commands)
    subcommands = commands[1:]
    names = " ".join(one.name for one in subcommands)
    options, values = [], []
    for command in commands:
        options.append(f"        {command.name or _NOTHING}) words='{' '.join(_names(command.options))}' ;;")
        for option in command.options:
            if option.metavar:
                patterns = "|".join(f"{command.name}:{name}" for name in option.names)
                words, files = " ".join(option.values), "yes" if option.takes_path else ""
                values.append(f"        {patterns}) words='{words}' files='{files}' value=yes ;;")
    arguments = [
        f"        {one.name}) words='{' '.join(argument.values)}' ;;"
        for one in subcommands
        for argument in one.arguments
        if argument.values
    ]
    return f"""# bash completion for tracer; `tracer completion bash` has written it.
_tracer() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
    local command='' word words='' files=yes value=''
    COMPREPLY=()
    # An equals sign is a word of its own.
    if [[ $previous == '=' ]]; then previous=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    if [[ $current == '=' ]]; then current=''; fi
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case " {names} " in *" $word "*) command=$word; break ;; esac
    done
    case "$command:$previous" in
{chr(10).join(values)}
    esac
    if [[ -z $value && $current == -* ]]; then
        case "$command" in
{_indented(options)}
        esac
        files=''
    elif [[ -z $value && -z $command ]]; then
        words='{names}' files=''
    elif [[ -z $value ]]; then
        case "$command" in
{_indented(arguments)}
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    if [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$current")
    fi
}}
complete -F _tracer tracer
"""


def zsh(commands: "Sequence[Command]") -> str:
    """For zsh, as a function that its completion system finds by its first line."""
    whole, *subcommands = _by_first_word(commands)
    listed = "\n".join(f"        '{one.name}:{_zsh_text(one.summary)}'" for one in subcommands)
    cases = "\n".join(
        f"        {one.name})\n            _arguments -s -S \\\n"
        + " \\\n".join(f"                {spec}" for spec in _zsh_specs(one))
        + " ;;"
        for one in subcommands
    )
    own = " \\\n".join(f"        {spec}" for option in whole.options for spec in _zsh_option(option))
    return f"""#compdef tracer
# zsh completion for tracer; `tracer completion zsh` has written it.
_tracer() {{
    local curcontext="$curcontext" state line
    typeset -A opt_args
    local -a commands
    commands=(
{listed}
    )
    _arguments -C -s \\
{own} \\
        '1: :->command' '*:: :->arguments'
    case $state in
    command) _describe command commands ;;
    arguments)
        case $line[1] in
{cases}
        esac ;;
    esac
}}
if [ "$funcstack[1]" = _tracer ]; then _tracer "$@"; else compdef _tracer tracer; fi
"""


def fish(commands: "Sequence[Command]") -> str:
    """For fish."""
    whole, *subcommands = _by_first_word(commands)
    lines = ["# fish completion for tracer; `tracer completion fish` has written it.", "complete -c tracer -f"]
    lines += [f"complete -c tracer {_fish_option(option)}" for option in whole.options]
    for one in subcommands:
        lines.append(
            f"complete -c tracer -n __fish_use_subcommand -a {one.name} -d {_fish_text(one.summary)}",
        )
        condition = f"complete -c tracer -n '__fish_seen_subcommand_from {one.name}'"
        lines += [f"{condition} {_fish_option(option)}" for option in one.options]
        for argument in one.arguments:
            if argument.values:
                lines.append(f"{condition} -a '{' '.join(argument.values)}'")
            elif argument.takes_path:
                lines.append(f"{condition} -F")
    return "\n".join(lines) + "\n"


def _by_first_word(commands: "Sequence[Command]") -> "list[Command]":
    """A group of subcommands as one that takes them as its argument, and the options of them all."""
    found: dict[str, Command] = {}
    for one in commands:
        word, _blank, second = one.name.partition(" ")
        if not second:
            found[word] = one
            continue
        group = found[word]
        further = tuple(
            option for option in one.options if option.names not in {known.names for known in group.options}
        )
        values = (*(value for argument in group.arguments for value in argument.values), second)
        argument = one.arguments[0]._replace(metavar="COMMAND", values=values)
        found[word] = group._replace(options=(*group.options, *further), arguments=(argument,))
    return [*found.values()]


def _names(parameters: "Iterable[Parameter]") -> list[str]:
    return [name for one in parameters for name in one.names]


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _zsh_specs(command: "Command") -> list[str]:
    specs = [spec for option in command.options for spec in _zsh_option(option)]
    for argument in command.arguments:
        repeated = "*" if argument.metavar.endswith("...") else ""
        specs.append(f"'{repeated}:{_zsh_text(argument.metavar)}:{_zsh_action(argument)}'")
    return specs


def _zsh_option(option: "Parameter") -> list[str]:
    value = f":{_zsh_text(option.metavar)}:{_zsh_action(option)}" if option.metavar else ""
    return [
        f"'*{name}{'=' if value and name.startswith('--') else ''}[{_zsh_text(option.help)}]{value}'"
        for name in option.names
    ]


def _zsh_action(parameter: "Parameter") -> str:
    if parameter.values and parameter.takes_path:
        return f'_alternative "values:value:({" ".join(parameter.values)})" "files:file:_files"'
    if parameter.values:
        return f"({' '.join(parameter.values)})"
    return "_files" if parameter.takes_path else " "


def _zsh_text(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text).replace("'", "'\\''")


def _fish_option(option: "Parameter") -> str:
    parts = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    if option.metavar:
        parts.append("-r -F" if option.takes_path else "-x")
    if option.values:
        parts.append(f"-a '{' '.join(option.values)}'")
    return " ".join([*parts, f"-d {_fish_text(option.help)}"])


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
