"""`pipeline`: texts in, answers out, in the shapes of transformers' pipelines.

predict = pipeline("fill-mask", folder)
predict("The movie was [MASK].")      [{"score", "token", "token_str", "sequence"}, …]
"""

from collections.abc import Sequence
from pathlib import Path

from minidistil.io.arguments import one_of
from minidistil.tasks import TASKS, predictor_of
from minidistil.tasks.base_predictor import Predictor
from minidistil.tasks.load_models import load


def pipeline(
    task: str, folder: str | Path | Sequence, *, backend: str = "cpu", dtype: str | None = None
) -> Predictor:
    """The predictor of one of the TASKS.

    folder: a model with its tokenizer (of images: preprocessor_config.json), or a name on the hub;
    a list of them is an ensemble, which averages the logits. backend, dtype: see
    `from_pretrained`.
    predict(text) answers for one text, predict([texts]) for several; a classifier also takes
    {"text": …, "text_pair": …}.

        fill-mask            [{"score", "token", "token_str", "sequence"}, …] top_k=5 of them; with
                             several [MASK]s in a text a list of such lists
        text-classification  [{"label", "score"}], with top_k that many of them (None: all);
                             for several texts one dict, or with top_k one list, each
        text-generation      [{"generated_text"}], the prompt and what follows it; options are those
                             of `minidistil.generate`: max_new_tokens, temperature, num_beams,
                             repetition_penalty, no_repeat_ngram_size, …
        token-classification [{"entity", "score", "index", "word", "start", "end"}, …] a text, one a
                             piece that is not "O"; with aggregation_strategy="simple", or
                             "first", "average", "max", which make words of pieces before,
                             [{"entity_group", "score", "word", "start", "end"}, …]
        question-answering   {"score", "start", "end", "answer"} for {"question": …, "context": …},
                             with top_k a list of them; "" is no answer, where
                             handle_impossible_answer=True allows it
        multiple-choice      {"answer", "index", "score"} for {"question": …, "choices": […]}
        translation          [{"translation_text"}], of a summarization [{"summary_text"}], one for
                             each text; num_beams=4 and the other options of
                             `EncoderDecoder.generate`
        extractive-summarization  {"summary_text", "sentences": [{"index", "score", "text"}, …]} for
                             a text, or a list of its sentences in {"text": […]}; sentences=3 of
                             them, trigram_blocking=True for no two alike
        feature-extraction   nested lists (1,T,C), for several texts a list of these
        sentence-embedding   a list of C numbers, for several texts a list of these
        image-classification [{"label", "score"}, …] top_k=5 of them, for an array (H,W),
                             (channels,H,W) or (H,W,channels); for a list of arrays a list of these

    Raises ValueError or MissingFileError for a bad folder, an empty text, a text without [MASK].
    """
    one_of("task", task, TASKS)
    model, tokenizer = load(folder, task=task, backend=backend, dtype=dtype)
    return predictor_of(task)(model, tokenizer)
