"""Whether what a picture says can be read."""

from __future__ import annotations

import itertools
import struct

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from mm_dagster_tests.pictures.test_charts import is_shown


def hold_words(png: bytes, figure: Figure) -> None:
    """Every word is inside the picture and over no other."""
    assert struct.unpack(">II", png[16:24]) == (720, 486)
    renderer = FigureCanvasAgg(figure).get_renderer()
    words = [text for text in figure.findobj(Text) if is_shown(text)]
    boxes = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in words]
    assert len(boxes) >= 8
    for text, box in boxes:
        assert min(box.x0, box.y0) >= 0, text
        assert box.x1 <= 720, text
        assert box.y1 <= 486, text
    for (one, box), (other, its) in itertools.combinations(boxes, 2):
        apart = box.x1 <= its.x0 + 1 or its.x1 <= box.x0 + 1 or box.y1 <= its.y0 + 2 or its.y1 <= box.y0 + 2
        assert apart, f"{one!r} over {other!r}"
