"""The command line: a command as data, its words understood, and whatever goes wrong said as a
sentence.
"""

import argparse
import os
import re
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from s2l_core.config import S2LError, check_choice, nearest


class UsageError(S2LError):
    """A command line that cannot be understood."""


class Parser(argparse.ArgumentParser):
    """argparse, whose complaints are sentences that name the nearest right word."""

    def __init__(self, **options):
        """As in argparse, but no option may be shortened."""
        self.options: list[str] = []
        # How arguments without dashes are written, by the option that a person takes them for.
        self.undashed: dict[str, str] = {}
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=layout, **options)

    def add_argument(self, *names, **options):
        """As in argparse; names are remembered for `parse`."""
        argument = super().add_argument(*names, **options)
        self.options += argument.option_strings
        if not argument.option_strings:
            self.undashed[f"--{argument.dest}"] = str(argument.metavar)
        return argument

    def add_settings(self, names: Iterable[str], **options) -> None:
        """The argument `values`: words name=value.

        Args:
            names: of what can be set.
            options: as `add_argument` takes them.
        """
        super().add_argument("values", metavar="name=value", **options)
        self.undashed |= {f"--{name}": f"{name}=..." for name in names}

    def parse(self, words: Sequence[str]) -> Namespace:
        """Reads the words after the command's name.

        Raises:
            UsageError: an unknown option, a missing argument or a value of the wrong kind.
        """
        for word in words[: words.index("--")] if "--" in words else words:
            name = word.partition("=")[0]
            is_number = re.fullmatch(r"-\d*\.?\d+(e[+-]?\d+)?", word)
            if not name.startswith("-") or name in self.options or is_number:
                continue
            if Path(word).exists():
                self.error(f"{word} looks like an option. Write ./{word}")
            self._refuse_option(name)

        # Options may stand between names, but for a line that says where they end.
        read = self.parse_known_args if "--" in words else self.parse_known_intermixed_args
        given, unknown = read(words)
        if unknown:
            self.error(
                f"{unknown[0]!r} is one word too many. Put quotes around a name with spaces."
            )
        return given

    def _refuse_option(self, name: str) -> NoReturn:
        """Says that there is no such option, and what was probably meant."""
        choices = ", ".join(self.options)
        meant = nearest(f"--{name.lstrip('-')}", [*self.options, *self.undashed])
        asked = f" Did you mean {meant!r}?" if meant else ""
        if meant in self.undashed:
            asked = f" Did you mean {self.undashed[meant]}, which is written without dashes?"
        self.error(f"there is no option {name!r}.{asked} Choose one of: {choices}")

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print."""
        message = message.removesuffix(".")
        raise UsageError(f"{message}. `{self.prog} --help` explains the command.")


@dataclass(frozen=True)
class Command:
    """A command of `s2l`.

    Attributes:
        summary: what it does, in half a line.
        about: what a person should know who has never used it.
        examples: lines to copy.
        arguments: adds its arguments to a parser.
        run: does it; returns the exit code.
        extra: the extra of this package that brings the libraries it needs.
    """

    summary: str
    about: str
    examples: tuple[str, ...]
    arguments: Callable[[Parser], object]
    run: Callable[[Namespace], int]
    extra: str


def main(
    name: str, title: str, groups: Mapping[str, Mapping[str, Command]], words: Sequence[str]
) -> int:
    """Runs one of several commands; whatever a user can cause ends as a sentence.

    Args:
        name: of the program.
        title: what it is, in one line.
        groups: heading -> commands by name.
        words: the command's name and what follows it.

    Returns:
        The exit code: 1 after an error, 2 where the words were not understood.
    """
    # What this terminal cannot show, such as a file name that is not UTF-8, appears escaped.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    commands = {key: command for group in groups.values() for key, command in group.items()}
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(_overview(name, title, groups))
            return 0
        if words[0] == "--version":
            from s2l_core import __version__

            print(name, __version__)
            return 0
        _check_command(name, words[0], commands)
        code = _run(f"{name} {words[0]}", commands[words[0]], words[1:])
        sys.stdout.flush()
        return code
    except S2LError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read the output has left, as `head` does; Python must not try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _check_command(name: str, word: str, commands: Mapping[str, Command]) -> None:
    """Raises a UsageError unless `word` is one of the commands."""
    try:
        check_choice("command", word, [*commands, "--help", "--version"])
    except S2LError as error:
        raise UsageError(f"{error} `{name} --help` lists them.") from None


def _run(name: str, command: Command, words: Sequence[str]) -> int:
    """Reads the arguments of one command, and does it."""
    examples = "\n".join(f"  {example}" for example in command.examples)
    parser = Parser(
        prog=name,
        description=f"{command.about}",
        epilog=f"{'examples' if len(command.examples) > 1 else 'example'}:\n{examples}",
    )
    command.arguments(parser)
    given = parser.parse(words)
    try:
        return command.run(given)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("s2l_"):
            raise
        install = f"pip install 's2l-core[{command.extra}]'"
        raise S2LError(f"{name} needs {error.name}. Install it: {install}") from error


def _overview(name: str, title: str, groups: Mapping[str, Mapping[str, Command]]) -> str:
    """The text of `s2l --help`."""
    lines = [f"usage: {name} COMMAND ...", "", title]
    for heading, commands in groups.items():
        lines += ["", heading]
        lines += [f"  {key:<12}{command.summary}" for key, command in commands.items()]
    return "\n".join([*lines, "", f"`{name} COMMAND --help` explains a command, with an example."])
