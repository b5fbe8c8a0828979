"""A text for the commands."""

import numpy as np
import pytest

GOOD = "the film was great and we loved all the actors"
BAD = "what a dull plot and how bad they were in it"
WORDS = [*GOOD.split(), *BAD.split()]


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(" ".join(rng.choice(WORDS, 30)) for _ in range(60)))
    return path
