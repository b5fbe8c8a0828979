"""A small DistilBERT for masked words, in a folder."""

import pytest
from small import CONFIG, saved

import minidistil as md


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return saved(md.from_config(CONFIG), tmp_path_factory.mktemp("model"))
