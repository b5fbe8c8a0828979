"""Predicts translations with an encoder–decoder."""

from minidistil.tasks.text_to_text.predictor import TextToText


class Translation(TextToText):
    """Answers {"translation_text"}."""

    key = "translation_text"
