"""The box of notebook 08 that asks for a folder."""

import numpy as np
import pytest
from PIL import Image

from s2l_images.board.folder_box import ask_for_folder
from s2l_images.board.own_folder import find_folder
from s2l_images.session import open_session, opened


@pytest.fixture
def box():
    return ask_for_folder(lambda name: open_session(find_folder(name)))


def press(box, text):
    """Writes a folder's name and presses Open; what the box says then."""
    (line, button), said = box.children[0].children, box.children[1]
    line.value = text
    button.click()
    return said.value


def test_a_folder_is_opened_by_its_name(box, tmp_path):
    (tmp_path / "my cells" / "images").mkdir(parents=True)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "my cells/images/a.png")
    said = press(box, f"  {tmp_path}/my cells ")
    assert said.startswith("1 images in") and opened().folder == tmp_path / "my cells"


def test_a_wrong_name_says_what_is_there_and_leaves_the_other_open(box, tmp_path):
    (tmp_path / "my cells" / "images").mkdir(parents=True)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "my cells/images/a.png")
    press(box, str(tmp_path / "my cells"))
    said = press(box, str(tmp_path / "my cell"))
    assert "is not there" in said and "my cells" in said
    assert opened().folder == tmp_path / "my cells"
