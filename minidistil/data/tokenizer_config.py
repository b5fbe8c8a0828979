"""The settings of a folder's tokenizer: class, options, special tokens, added pieces.

    tokenizer_config.json     the class, its options, the special tokens, the longest text, and in
                              added_tokens_decoder {id: piece} beyond the vocabulary
    special_tokens_map.json   the special tokens
    added_tokens.json         {piece: id} beyond the vocabulary

The last two are an older form: with an added_tokens_decoder they are not read, else they come
first. Source: `from_pretrained` of transformers' tokenizers.
"""

from pathlib import Path
from typing import NamedTuple

from minidistil.io.json_fields import Fields

UNLIMITED = 1_000_000  # transformers writes 1e30 for "no limit"
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # in the order in which they are added
OPTIONAL = ("unk", "mask")  # bytes encode every text, and a classifier fills no mask
ENDS = ("cls", "sep")
EXTRA = ("extra_special_tokens", "additional_special_tokens")
SIDES = ("right", "left")
SHORTEST = 3  # tokens of a text: two special ones and one of its own


class TokenizerConfig(NamedTuple):
    """The settings; an option that the files do not give is None, a role without a name absent."""

    fields: Fields  # tokenizer_config.json
    family: str  # the class without "Tokenizer" and "Fast", in lower case; "" for none
    named: dict  # role -> AddedToken
    unmasked: bool  # whether the files state that there is no mask token
    extra: list  # AddedTokens without a role
    added: dict  # id -> AddedToken
    max_length: int | None
    inputs: list
    side: str | None  # where long texts are cut
    split_special: bool  # whether the name of a special token in a text is ordinary text

    @property
    def names(self) -> dict[str, str | None]:
        """Role -> name of the special tokens; {"mask": None} where there is explicitly no mask."""
        found = {role: token.content for role, token in self.named.items()}
        return {**({"mask": None} if self.unmasked else {}), **found}


def read_tokenizer_config(folder: Path) -> TokenizerConfig:
    """The settings of a folder. Raises ValueError with file, key, value and what is allowed."""
    fields = Fields(folder / "tokenizer_config.json")
    sources = [fields]
    if "added_tokens_decoder" not in fields.values:
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
    length = "model_max_length" if fields.get("model_max_length") is not None else "max_len"
    inputs = fields.list("model_input_names")
    if not all(isinstance(name, str) for name in inputs):
        raise fields.refuse("model_input_names", "a list of strings")
    special = {token.content for token in (*named.values(), *extra)}
    sided = fields.get("truncation_side") is not None
    return TokenizerConfig(
        fields, _family(fields.text("tokenizer_class")),
        named, unmasked, extra, _added(folder, fields, special),
        fields.count(length, SHORTEST, UNLIMITED), inputs,
        fields.choice("truncation_side", SIDES) if sided else None,
        bool(fields.flag("split_special_tokens")),
    )  # fmt: skip


def _family(kind):
    """BertTokenizerFast -> bert; the generic classes -> ""."""
    family = (kind or "").removesuffix("Fast").removesuffix("Tokenizer").lower()
    return "" if family in ("pretrained", "tokenizersbackend") else family


def _extra(source):
    """The special tokens without a role; the files list them, or map names to them."""
    found = []
    for key in EXTRA:
        given = source.get(key)
        if isinstance(given, dict):
            given = list(given.values())
        elif given is not None and not isinstance(given, list):
            raise source.refuse(key, "a list of pieces, or an object of them")
        found += [source.token(key, token, special=True) for token in given or ()]
    return found


def _added(folder, fields, special):
    """{id: AddedToken} of the pieces beyond the vocabulary."""
    key, added = "added_tokens_decoder", {}
    if key in fields.values:
        for number, token in fields.object(key).items():
            place = fields.whole(key, number)
            added[place] = fields.token(key, token, special=False)
        return added
    older = Fields(folder / "added_tokens.json")
    for name, number in older.values.items():
        place = older.whole(name, number)
        if place is None or place in added:
            raise older.refuse(name, "an id that no other piece has", number)
        added[place] = older.token(name, name, special=name in special)
    return added
