"""Old names of commands, which work for one more release."""

import runpy
import sys


def moved(command: str = "", **renamed: str) -> None:
    """Says the new name of a command on stderr, and runs that.

    The other packages are named in a string for `runpy`: nothing here imports them.

    Args:
        command: words of `s2l` that replace the old name.
        renamed: where the old name had commands of its own, the words that replace each of them.
    """
    words = sys.argv[1:]
    if words and words[0] in renamed:
        command = renamed[words.pop(0)]
    said = f"s2l {command}".strip()
    print(f"This is `{said}` now; the old name goes with the next release.", file=sys.stderr)
    sys.argv[1:] = command.split() + words
    runpy.run_module("s2l_paper", run_name="__main__", alter_sys=True)
