"""The box of notebook 08 that asks for a folder, and for a channel where there are several."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from s2l_core.config import S2LError
from s2l_images.board.folder_box import ask_for_folder
from s2l_images.board.own_folder import find_folder
from s2l_images.folders.own_channel import channel_chosen
from s2l_images.places import own_settings
from s2l_images.session import open_session, opened
from s2l_paper.running.examples import open_own_images

DAPI, GFP = (np.indices((64, 64))[k].astype(np.uint16) * 100 for k in (0, 1))


@pytest.fixture
def box():

    def opens(name, channel):
        with channel_chosen(find_folder(name), channel):
            return open_session(find_folder(name))

    return ask_for_folder(opens)


@pytest.fixture
def stained(tmp_path):
    """A folder with an image of two channels."""
    folder = tmp_path / "stained"
    (folder / "images").mkdir(parents=True)
    about = {"axes": "CYX", "Labels": ["DAPI", "GFP"]}
    stack = np.stack([DAPI, GFP])
    tifffile.imwrite(folder / "images" / "a.tif", stack, imagej=True, metadata=about)
    return folder


def rises(work):
    """Along which axis the image that is open grows brighter."""
    grey = work.cells["a"].image[..., 0].astype(int)
    return int(np.ptp(grey[0]) > np.ptp(grey[:, 0]))


def press(box, text):
    """Writes a folder's name and presses Open; what the box says then."""
    (line, button), said = box.children[0].children, box.children[2]
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


def test_a_channel_is_asked_for_where_there_are_several(box, stained, tmp_path):
    channel = box.children[1]
    assert "1 = 'DAPI', 2 = 'GFP'" in press(box, str(stained))
    assert channel.options == ("choose one", "DAPI", "GFP") and channel.layout.display == ""
    channel.value = "GFP"
    assert box.children[2].value.startswith("1 images in") and rises(opened()) == 1
    channel.value = "DAPI"
    assert rises(opened()) == 0 and own_settings(stained).read_text() == 'channel = "DAPI"\n'

    (tmp_path / "grey" / "images").mkdir(parents=True)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "grey/images/a.png")
    press(box, str(tmp_path / "grey"))
    assert channel.layout.display == "none"


def test_the_parameter_of_the_notebook_chooses_a_channel(stained):
    own_settings(stained).write_text('# mine\nchannel = "GFP"\nplane = 1\n')
    assert rises(open_own_images(str(stained), "", channel="", threads=1)) == 1
    for channel in ("DAPI", "1"):
        assert rises(open_own_images(str(stained), "", channel=channel, threads=1)) == 0
    assert own_settings(stained).read_text() == "channel = 1\n# mine\nplane = 1\n"

    # A channel that is not there is named, and what was noted stays.
    with pytest.raises(S2LError, match="no channel 'DAPY'"):
        open_own_images(str(stained), "", channel="DAPY", threads=1)
    assert own_settings(stained).read_text() == "channel = 1\n# mine\nplane = 1\n"


def test_nothing_is_left_of_a_channel_that_is_not_there(stained):
    with pytest.raises(S2LError, match="no channel 7"):
        open_own_images(str(stained), "", channel="7", threads=1)
    assert not own_settings(stained).exists()
