"""A box in notebook 08 that asks for a folder, for those who would rather not edit a cell."""

from collections.abc import Callable

import ipywidgets

from s2l_core.config import S2LError
from s2l_images.board.own_folder import find_folder
from s2l_images.folders.own_channel import channels_to_choose

HINT = "the whole path of a folder that holds images/"
NONE_CHOSEN = "choose one"


def ask_for_folder(open_folder: Callable[[str, str], object]) -> ipywidgets.VBox:
    """A line to write a folder into, and a button that opens it.

    Where its images have several channels, a list asks for the one to learn from. What is said
    below the line is what was opened, or what is wrong with the folder; whatever was open before
    then stays open.

    Args:
        open_folder: opens the folder of a name, with a channel or "", and returns what to say of
            it; raises S2LError.
    """
    layout = ipywidgets.Layout(width="60%")
    line = ipywidgets.Text(placeholder=HINT, description="Folder", layout=layout)
    button = ipywidgets.Button(description="Open", tooltip="Opens this folder instead")
    hidden = ipywidgets.Layout(display="none")
    channel = ipywidgets.Dropdown(options=[NONE_CHOSEN], description="Channel", layout=hidden)
    said = ipywidgets.Label()

    def tries(chosen: str) -> None:
        try:
            work = open_folder(line.value.strip(), chosen)
        except S2LError as error:
            said.value = str(error)
        else:
            said.value = f"{work}. Now run the next cell."

    def opens(_: object) -> None:
        try:
            names = channels_to_choose(find_folder(line.value.strip()))
        except S2LError:  # is said below
            names = ()
        channel.layout.display = "" if names else "none"
        channel.options = [NONE_CHOSEN, *names]
        tries("")

    def chooses(change: dict) -> None:
        if change["new"] not in (None, NONE_CHOSEN):
            tries(change["new"])

    button.on_click(opens)
    channel.observe(chooses, "value")
    return ipywidgets.VBox([ipywidgets.HBox([line, button]), channel, said])
