"""Pictures of the board in a notebook: small enough to be kept, and one for whoever opens it when
its kernel is gone.
"""

import base64
import html
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from IPython.display import HTML
    from IPython.display import Image as Shown

QUALITY = 85  # of JPEG: a tenth of a PNG's size, for images of tissue
SMALLEST_SHOWN = 400  # pixels of the screen: smaller images are enlarged
LARGEST_STILL = 700  # larger ones are reduced, or a few of them fill a notebook

# The board's own style hides this picture, and is there only where the board is. Where it is not,
# the page's remark that a model is missing is hidden instead.
STILL = """<style>
.jp-OutputArea-child:has(.s2l-still) ~ .jp-OutputArea-child .jupyter-widgets:not(:has(*)) {{
  display: none;
}}
</style>
<div class="s2l-still"><img src="data:image/jpeg;base64,{source}" alt="The board"
style="max-width: 100%"><br>{said}. This is a picture of the board: run the cells up to this one,
and it is there to draw on.</div>"""


def shown(picture: np.ndarray) -> "Shown":
    """A picture (H, W, 3) uint8 below a cell."""
    from IPython.display import Image as Shown  # only where there are notebooks

    return Shown(_jpeg(picture), format="jpeg")


def still(picture: np.ndarray, said: str) -> "HTML":
    """A picture (H, W, 3) uint8 in place of the board, and a line below it."""
    from IPython.display import HTML

    source = base64.b64encode(_jpeg(picture)).decode()
    return HTML(STILL.format(source=source, said=html.escape(said)))


def _jpeg(picture: np.ndarray) -> bytes:
    image, file = Image.fromarray(picture), io.BytesIO()
    times = max(1, round(SMALLEST_SHOWN / max(image.size)))
    size = (image.width * times, image.height * times)
    image = image.resize(size, Image.Resampling.NEAREST)
    image.thumbnail((LARGEST_STILL, LARGEST_STILL))
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
