"""The command `s2l check`."""

from argparse import Namespace

from s2l_images.commands.argument_kinds import path
from s2l_images.commands.command_line import Command, Parser


def _check_arguments(parser: Parser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=path, help="holds images/")


def _check(given: Namespace) -> int:
    """Prints the report of a folder; 1 where there is an error."""
    from s2l_images.folders.input_checks import check_folder, report

    found = check_folder(given.folder)
    print(report(given.folder, found))
    return int(any(finding.level == "error" for finding in found))


CHECK = Command(
    summary="say what is wrong with a folder of images, before anything is trained",
    about="""\
Looks at every file of a folder with images/, and scribbles/ or masks/ if you have them: files that
cannot be read, labels that do not fit, values that mean something else than you think. Nothing is
changed. Errors stop training, warnings do not; docs/bad_inputs.md explains each of them.""",
    examples=("s2l check my-cells",),
    arguments=_check_arguments,
    run=_check,
    extra="images",
)
