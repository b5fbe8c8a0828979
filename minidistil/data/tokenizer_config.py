"""What a folder says of its tokenizer beside the vocabulary.

    tokenizer_config.json     the class, its options, the special tokens, the longest text, and in
                              added_tokens_decoder {id: piece} beyond the vocabulary
    special_tokens_map.json   the special tokens
    added_tokens.json         {piece: id} beyond the vocabulary

The last two are older: with an added_tokens_decoder they are not read, else they come first.
Source: `from_pretrained` of transformers' tokenizers.
"""

from typing import NamedTuple

from minidistil.io.json_fields import Fields

UNLIMITED = 1_000_000  # transformers writes 1e30 for "no limit"
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # in the order in which they are added
OPTIONAL = ("unk", "mask")  # bytes know every text, and a classifier fills no mask
ENDS = ("cls", "sep")
EXTRA = ("extra_special_tokens", "additional_special_tokens")
SIDES = ("right", "left")
SHORTEST = 3  # tokens of a text: two that mark its ends, and one of its own


class TokenizerConfig(NamedTuple):
    """An option is None, and a name missing, where the folder does not say it."""

    fields: Fields  # tokenizer_config.json
    family: str  # the class without "Tokenizer" and "Fast", in small letters; "" for none
    named: dict  # role -> AddedToken
    unmasked: bool  # whether it is said that there is no mask
    extra: list  # AddedTokens without a role
    added: dict  # id -> AddedToken
    max_length: int | None
    inputs: list
    side: str  # the end of a long text that is cut off; None for the default
    split_special: bool  # whether the name of a special token in a text is text

    @property
    def names(self):
        """Role -> name, where there is one; None of a mask that shall not be."""
        found = {role: token.content for role, token in self.named.items()}
        return {**({"mask": None} if self.unmasked else {}), **found}


def read_tokenizer_config(folder):
    """Raises ValueError with the file, the key, the value and what is allowed."""
    said = Fields(folder / "tokenizer_config.json")
    sources = [said]
    if "added_tokens_decoder" not in said.values:
        sources.append(Fields(folder / "special_tokens_map.json"))
    named, extra, unmasked = {}, [], False
    for source in sources:
        for role in ROLES:
            key, value = f"{role}_token", source.get(f"{role}_token")
            if value is not None and (value != "" or role in ENDS):  # "" is none, as null is
                named[role] = source.token(key, value, special=True)
            elif role == "mask":
                unmasked = unmasked or key in source.values
        extra += _extra(source)
    length = "model_max_length" if said.get("model_max_length") is not None else "max_len"
    inputs = said.list("model_input_names")
    if not all(isinstance(name, str) for name in inputs):
        raise said.refuse("model_input_names", "a list of strings")
    special = {token.content for token in (*named.values(), *extra)}
    return TokenizerConfig(
        said, _family(said.text("tokenizer_class")),
        named, unmasked, extra, _added(folder, said, special),
        said.count(length, SHORTEST, UNLIMITED), inputs,
        said.choice("truncation_side", SIDES) if said.get("truncation_side") is not None else None,
        bool(said.flag("split_special_tokens")),
    )  # fmt: skip


def _family(kind):
    """BertTokenizerFast -> bert; the classes that stand for any tokenizer -> nothing."""
    family = (kind or "").removesuffix("Fast").removesuffix("Tokenizer").lower()
    return "" if family in ("pretrained", "tokenizersbackend") else family


def _extra(source):
    """The special tokens that have no role, as a list or by names of their own."""
    found = []
    for key in EXTRA:
        given = source.get(key)
        if isinstance(given, dict):
            given = list(given.values())
        elif given is not None and not isinstance(given, list):
            raise source.refuse(key, "a list of pieces, or an object of them")
        found += [source.token(key, token, special=True) for token in given or ()]
    return found


def _added(folder, said, special):
    """{id: AddedToken} of the pieces that the vocabulary of its kind does not hold."""
    key, added = "added_tokens_decoder", {}
    if key in said.values:
        for number, token in said.object(key).items():
            place = said.whole(key, number)
            added[place] = said.token(key, token, special=False)
        return added
    older = Fields(folder / "added_tokens.json")
    for name, number in older.values.items():
        place = older.whole(name, number)
        if place is None or place in added:
            raise older.refuse(name, "an id that no other piece has", number)
        added[place] = older.token(name, name, special=name in special)
    return added
