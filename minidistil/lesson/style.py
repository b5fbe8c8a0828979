"""Plot style and example sizes of the notebooks."""

import os
from typing import Any

# For plt.style.use: colours safe for colour blindness, and a line style for each, for print.
STYLE = {
    "figure.figsize": (7, 3),
    "figure.dpi": 90,
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": (
        "cycler('color', ['006BA4', 'C85200', '595959', '5F9ED1', 'FFBC79'])"
        " + cycler('linestyle', ['-', '--', '-.', ':', '-'])"
    ),
    "image.cmap": "cividis",
    "lines.linewidth": 2,
    "legend.frameon": False,
}


def size(full: Any, small: Any) -> Any:
    """`full`; `small` if the environment sets MINIDISTIL_LESSON=small, as the tests do."""
    return small if os.environ.get("MINIDISTIL_LESSON") == "small" else full
