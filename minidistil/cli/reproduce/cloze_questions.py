"""Questions made of the sentences of articles: a question word in place of a name or a number.

    Neoclassicism and expressionism came mostly after 1900.
    ->  "and expressionism came mostly after when?", with the answer "1900"

Real questions are few, because each has to be written and answered. A teacher answers these, and
its student learns from the answers. A question is a sentence of its text, and so would be found by
comparing words: some of its words are left out, and half of the questions begin with the question
word, without a mark at the place where the answer was.
Source: Lewis, Denoyer & Riedel, "Unsupervised question answering by cloze translation", 2019.
"""

import random
import re
from collections.abc import Mapping

SENTENCE = re.compile(r"[^.!?]+(?:\.(?!\s)[^.!?]+)*[.!?]")  # a stop within a word ends none
ANSWER = re.compile(  # names, and numbers
    r"\b(?:[A-Z][\w'’-]+(?: (?:of |the |de )?[A-Z][\w'’-]+)*|\d[\d,.]*\d|\d+)\b"
)
YEAR = re.compile(r"1\d{3}|20\d\d")
WORDS = range(6, 41)  # of a sentence that becomes a question
EACH = 2  # sentences of an article
LEFT_OUT = 0.2  # of the other words
GAP = "\0"  # where the answer was


def cloze_questions(articles: Mapping[str, Mapping], seed: int = 0) -> dict:
    """{title: {"extract": text}}  ->  questions in SQuAD's format, the same for the same seed."""
    order, found = random.Random(seed), []
    for title, article in articles.items():
        text = article["extract"]
        sentences = list(SENTENCE.finditer(text))
        if len(sentences) < 2:
            continue
        asked = []
        for sentence in order.sample(sentences, min(EACH, len(sentences))):
            if one := _question(sentence, order):
                asked.append({"id": f"{len(found)}-{len(asked)}", **one})
        if asked:
            found.append({"title": title, "paragraphs": [{"context": text, "qas": asked}]})
    return {"version": "1.1", "data": found}


def _question(sentence, order):
    """A sentence, a match in its text  ->  its question and answer, or None."""
    text = sentence.group().strip()
    first = sentence.end() - len(sentence.group().lstrip())
    answers = [match for match in ANSWER.finditer(text) if match.start() > 0]
    if not answers or len(text.split()) not in WORDS:
        return None
    answer = order.choice(answers)
    word = _question_word(answer.group(), order)
    words = f"{text[: answer.start()]}{GAP}{text[answer.end() :]}".rstrip(".").split()
    question = " ".join(w for w in words if GAP in w or order.random() > LEFT_OUT)
    if order.random() < 0.5:
        question = question.replace(GAP, word)
    else:
        question = f"{word} {question.replace(GAP, '')}"
    place = first + answer.start()
    return {
        "question": f"{' '.join(question.split())}?",
        "answers": [{"text": answer.group(), "answer_start": place}],
    }


def _question_word(answer, order):
    if YEAR.fullmatch(answer):
        return "when"
    return "how many" if answer[0].isdigit() else order.choice(["what", "who", "which"])
