"""A picture of the board, for whoever opens a notebook whose kernel is gone."""

import base64
import html
import io
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from IPython.display import HTML

# The board's own style hides this picture, and is there only where the board is. Where it is not,
# the page's remark that a model is missing is hidden instead.
STILL = """<style>
.jp-OutputArea-child:has(.s2l-still) ~ .jp-OutputArea-child .jupyter-widgets:not(:has(*)) {{
  display: none;
}}
</style>
<div class="s2l-still"><img src="data:image/png;base64,{source}" alt="The board"
style="max-width: 100%"><br>{said}. This is a picture of the board: run the cells up to this one,
and it is there to draw on.</div>"""


def still(picture: Image.Image, said: str) -> "HTML":
    """The picture, and a line below it."""
    from IPython.display import HTML  # only where there are notebooks

    file = io.BytesIO()
    picture.save(file, "PNG")
    source = base64.b64encode(file.getvalue()).decode()
    return HTML(STILL.format(source=source, said=html.escape(said)))
