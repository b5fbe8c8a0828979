"""A small DistilBERT for masked words, in a folder; and calm while transformers is imported."""

import warnings

import pytest
from small import CONFIG, saved

import minidistil as md


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return saved(md.from_config(CONFIG), tmp_path_factory.mktemp("model"))


@pytest.fixture
def calm():
    """One thread of torch's; and transformers' import warns of its own dependencies."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
    torch.set_num_threads(before)
