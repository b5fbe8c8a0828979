"""Predicts abstractive summaries with an encoder–decoder."""

from minidistil.tasks.text_to_text.predictor import TextToText


class Summarization(TextToText):
    """Answers {"summary_text"}."""

    key = "summary_text"
