"""Writes a tokenizer as the files of a folder, from which transformers makes the same ids.

From version 5 on, transformers rebuilds a BERT's or a RoBERTa's tokenizer from the vocabulary and a
few options and ignores the rest of tokenizer.json. So tokenizer_config.json names such a class only
if it would build the same tokenizer; every other one is a PreTrainedTokenizerFast, which uses
tokenizer.json unchanged.
"""

import json

from tokenizers import models

from minidistil.data.tokenizer_kinds import byte_pairs, unigrams, wordpiece

GENERIC = "PreTrainedTokenizerFast"
INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def contents(tokenizer, token_types: bool) -> dict[str, str]:
    """A Tokenizer  ->  {name of a file: its text}."""
    whole = tokenizer.to_json()
    state = json.loads(whole)
    name, options = _class(state, tokenizer.names, tokenizer.ids)
    config = {
        "tokenizer_class": name,
        **options,
        **_prefix(state["pre_tokenizer"] or {}),
        "model_max_length": tokenizer.max_length,
        **({"truncation_side": tokenizer.side} if tokenizer.side != "right" else {}),
        **({"split_special_tokens": True} if tokenizer.backend.encode_special_tokens else {}),
        "model_input_names": [x for x in INPUTS if token_types or x != "token_type_ids"],
        **_names(tokenizer.names, state["model"]["type"]),
    }
    return {
        "tokenizer.json": whole,
        **_vocabulary(state["model"], tokenizer.backend.get_vocab()),
        "tokenizer_config.json": json.dumps(config, indent=2, ensure_ascii=False) + "\n",
    }


def _prefix(pre_tokenizer):
    """add_prefix_space of byte-level BPE, which every class expects in the file."""
    key = "add_prefix_space"
    return {key: pre_tokenizer[key]} if key in pre_tokenizer else {}


def _names(names, kind):
    """The special tokens by transformers' names, null where there is none: a class would add its
    default token to the vocabulary where the key is absent."""
    roles = {f"{role}_token": names.get(role) for role in ("pad", "unk", "cls", "sep", "mask")}
    ends = {"bos_token": names["cls"], "eos_token": names["sep"]}
    return roles if kind == "WordPiece" else {**roles, **ends}


def _vocabulary(model, vocabulary):
    """vocab.txt, or vocab.json and merges.txt, if these formats can hold the pieces."""
    words = dict(sorted(vocabulary.items(), key=lambda word: word[1]))
    if model["type"] == "WordPiece":
        numbered = [*words.values()] == [*range(len(words))]
        lines = all(word and word == word.strip() and not {*"\r\n"} & {*word} for word in words)
        text = "".join(f"{word}\n" for word in words)
        return {"vocab.txt": text} if numbered and lines else {}
    if model["type"] == "BPE":
        pairs = [f"{left} {right}" for left, right in model["merges"]]
        text = "".join(f"{pair}\n" for pair in ("#version: 0.2", *pairs))
        files = {"vocab.json": json.dumps(words, ensure_ascii=False), "merges.txt": text}
        return files if all(len(pair.split()) == 2 for pair in pairs) else {}
    return {}


# ------------------------------------------------------- classes of transformers


def _class(state, names, ids):
    """The class of transformers that builds the same tokenizer, and its options."""
    few = {name: ids[role] for role, name in names.items()}
    candidates = CANDIDATES.get(state["model"]["type"])
    for name, options, twin in candidates(state, names, few) if candidates else ():
        if _parts(json.loads(twin.to_str())) == _parts(state):
            return name, options
    return GENERIC, {}


def _parts(state):
    """The steps that determine the ids of a text, without the vocabulary."""
    model = {k: v or None for k, v in state["model"].items() if k not in ("vocab", "merges")}
    after = state["post_processor"] or {}
    after = None if after.get("type") in (None, "ByteLevel") else after  # ByteLevel adds no token
    return model, after, *(state[part] for part in ("normalizer", "pre_tokenizer", "decoder"))


def _word_pieces(state, names, few):
    """few: the special tokens alone, as a vocabulary."""
    normalizer = state["normalizer"] or {}
    if normalizer.get("type") == "BertNormalizer" and "unk" in names:
        lower, accents = normalizer["lowercase"], normalizer["strip_accents"]
        chinese = normalizer["handle_chinese_chars"]
        twin = wordpiece(few, names, lowercase=lower, strip_accents=accents, chinese=chinese)
        yield "BertTokenizer", {
            "do_lower_case": lower, "strip_accents": accents, "tokenize_chinese_chars": chinese
        }, twin  # fmt: skip


def _byte_pairs(state, names, few):
    pre_tokenizer = state["pre_tokenizer"] or {}
    if pre_tokenizer.get("type") == "ByteLevel":
        prefix = pre_tokenizer["add_prefix_space"]
        for name, ends in (("RobertaTokenizer", True), ("GPT2Tokenizer", False)):
            twin = byte_pairs(models.BPE(few, []), names, prefix, ends)
            yield name, {}, twin


def _unigrams(state, names, few):
    """AlbertTokenizer's unknown piece has id 1; its end tokens are [CLS] and [SEP]."""
    kinds = [step["type"] for step in (state["normalizer"] or {}).get("normalizers", ())]
    pieces = [(piece, score) for piece, score in state["model"]["vocab"]]
    if (names["cls"], names["sep"]) == ("[CLS]", "[SEP]") and len(pieces) > 1:
        options = {
            "do_lower_case": "Lowercase" in kinds,
            "keep_accents": "StripAccents" not in kinds,
            "add_prefix_space": '"always"' in json.dumps(state["pre_tokenizer"]),
        }
        yield "AlbertTokenizer", options, unigrams(models.Unigram(pieces, 1), *options.values())


CANDIDATES = {"WordPiece": _word_pieces, "BPE": _byte_pairs, "Unigram": _unigrams}
