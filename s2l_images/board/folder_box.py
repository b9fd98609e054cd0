"""A box in notebook 08 that asks for a folder, for those who would rather not edit a cell."""

from collections.abc import Callable

import ipywidgets

from s2l_core.config import S2LError

HINT = "the whole path of a folder that holds images/"


def ask_for_folder(open_folder: Callable[[str], object]) -> ipywidgets.VBox:
    """A line to write a folder into, and a button that opens it.

    What is said below the line is what was opened, or what is wrong with the folder; whatever was
    open before then stays open.

    Args:
        open_folder: opens the folder of that name, and returns what to say of it; raises S2LError.
    """
    layout = ipywidgets.Layout(width="60%")
    line = ipywidgets.Text(placeholder=HINT, description="Folder", layout=layout)
    button = ipywidgets.Button(description="Open", tooltip="Opens this folder instead")
    said = ipywidgets.Label()

    def opens(_: object) -> None:
        try:
            work = open_folder(line.value.strip())
        except S2LError as error:
            said.value = str(error)
        else:
            said.value = f"{work}. Now run the next cell."

    button.on_click(opens)
    return ipywidgets.VBox([ipywidgets.HBox([line, button]), said])
