"""Pooling options and prompts of a sentence-embedding model, and their sentence-transformers files.

    modules.json                      the modules: Transformer, Pooling, Normalize
    1_Pooling/config.json             pooling_mode; before version 5.4 a flag for each mode
    sentence_bert_config.json         max_seq_length, do_lower_case
    config_sentence_transformers.json prompts {name: text} and default_prompt_name

Source: sentence-transformers 5.4, whose reading of these files is reproduced.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from minidistil.config.sentence_folder import MODULES, modules_around, modules_of
from minidistil.io.files import read_settings, write_json
from minidistil.io.limits import short

POOLING, LENGTH = "1_Pooling/config.json", "sentence_bert_config.json"
PROMPTS = "config_sentence_transformers.json"
LEGACY_FOLDER = "0_Transformer"  # the model's subfolder in folders of versions before 2.0
LENGTHS = (LENGTH, *(f"sentence_{x}_config.json" for x in ("roberta", "distilbert", "albert")))
SENTENCE_FILES = (MODULES, POOLING, PROMPTS, *LENGTHS)
TYPES = "sentence_transformers.models."
MODES = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}
# {role of a text: names of its prompt, in order of precedence}
ROLES = {"query": ("query",), "document": ("document", "passage", "corpus")}


@dataclass(frozen=True)
class Pooling:
    """Options of a sentence-embedding model beside those of its encoder."""

    mode: str = "mean"  # or cls
    normalize: bool = True  # divide the vector by its length
    max_length: int | None = None  # in tokens; None: the number of positions
    lower_case: bool = False  # lowercase the text before the tokenizer
    prompts: dict = field(default_factory=dict)  # {name: prefix of a text}
    default_prompt: str | None = None  # name of the prompt of a text without a named one

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"pooling must be one of {', '.join(MODES)}, not {self.mode!r}")
        if self.default_prompt is not None:
            self.prompt(self.default_prompt)

    def prompt(self, name: str | None = None) -> str:
        """The prefix of a text: the prompt of this name, or the default one, "" without any. Raises
        ValueError for an unknown name."""
        name = self.default_prompt if name is None else name
        if name is not None and name not in self.prompts:
            raise ValueError(f"prompt {name!r} is not among {', '.join(self.prompts) or 'none'}")
        return "" if name is None else self.prompts[name]

    def prompt_of(self, role: str) -> str | None:
        """The name of the prompt of a "query" or a "document", None for the default one."""
        return next((name for name in ROLES[role] if name in self.prompts), None)

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """The options in a folder's files. Without such files: the normalised mean.

        Raises ValueError for a pooling mode or a module that this version does not support.
        """
        root = modules_around(folder)
        if root is None:
            return cls()
        modules = modules_of(root)
        kinds = [module.kind for module in modules]
        if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Normalize"}:
            raise ValueError(
                f"{root / MODULES} lists {', '.join(kinds)}; this version reads Transformer, "
                f"Pooling and Normalize"
            )
        path = modules[1].path / "config.json"
        given, prompts = read_settings(path), _prompts(root)
        if given.get("include_prompt") is False and any(prompts["prompts"].values()):
            raise ValueError(f"{path}: include_prompt must be true, as the folder has prompts")
        text = _text_settings(modules[0].path)
        return cls(_mode(path, given), "Normalize" in kinds, **text, **prompts)

    def write(self, folder: str | Path, channels: int) -> None:
        """Write the files that sentence-transformers reads beside config.json."""
        folder, kinds = Path(folder), [("", "Transformer"), ("1_Pooling", "Pooling")]
        if self.normalize:
            kinds.append(("2_Normalize", "Normalize"))
        write_json(folder / POOLING, {
            "word_embedding_dimension": channels,
            **{key: mode == self.mode for mode, key in MODES.items()},
        })  # fmt: skip
        write_json(folder / MODULES, [
            {"idx": i, "name": str(i), "path": path, "type": TYPES + kind}
            for i, (path, kind) in enumerate(kinds)
        ])  # fmt: skip
        if self.max_length is not None or self.lower_case:
            text = {"max_seq_length": self.max_length, "do_lower_case": self.lower_case}
            write_json(folder / LENGTH, text)
        if self.prompts:
            prompts = {"prompts": self.prompts, "default_prompt_name": self.default_prompt}
            write_json(folder / PROMPTS, prompts)


def _mode(path, given):
    """The pooling mode in 1_Pooling/config.json. Raises ValueError for one that is not in MODES."""
    chosen = given.get("pooling_mode")
    if chosen is None:
        flags = [k for k, on in given.items() if k.startswith("pooling_mode_") and on is True]
        named = {key: mode for mode, key in MODES.items()}
        chosen = sorted(named.get(key, key) for key in flags)
    modes = [chosen] if isinstance(chosen, str) else chosen
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in MODES:
        listed = ", ".join(map(str, modes)) if isinstance(modes, list) else short(modes)
        raise ValueError(
            f"{path} asks for {listed or 'no pooling'}; this version has "
            f"{', '.join(MODES)} ({', '.join(MODES.values())}), one at a time"
        )
    return modes[0]


def _text_settings(body):
    """max_length and lower_case, from the first file of LENGTHS in the model's folder."""
    path = next((body / name for name in LENGTHS if (body / name).is_file()), None)
    given = {} if path is None else read_settings(path)
    length, lower = given.get("max_seq_length"), given.get("do_lower_case") or False
    if length is not None and (
        not isinstance(length, int) or isinstance(length, bool) or length < 3
    ):
        raise ValueError(f"{path}: max_seq_length must be 3 or more, not {short(length)}")
    if not isinstance(lower, bool):
        raise ValueError(f"{path}: do_lower_case must be true or false, not {short(lower)}")
    output = _pooled_output(given)
    if output != "last_hidden_state":
        raise ValueError(
            f"{path}: modality_config must take last_hidden_state, not {short(output)}"
        )
    return {"max_length": length, "lower_case": lower}


def _pooled_output(given):
    """The name of the encoder's output that is pooled."""
    text = given.get("modality_config")
    text = text.get("text") if isinstance(text, dict) else None
    output = text.get("method_output_name") if isinstance(text, dict) else None
    return "last_hidden_state" if output is None else output


def _prompts(root):
    """prompts and default_prompt, from config_sentence_transformers.json."""
    path = root / PROMPTS
    given = read_settings(path) if path.is_file() else {}
    prompts, default = given.get("prompts") or {}, given.get("default_prompt_name")
    if not isinstance(prompts, dict) or any(
        not isinstance(text, str | None) for text in prompts.values()
    ):
        raise ValueError(f"{path}: prompts must be texts by name, not {short(prompts)}")
    prompts = {name: text or "" for name, text in prompts.items()}
    if default is not None and default not in prompts:
        raise ValueError(
            f"{path}: default_prompt_name {short(default)} is not among the prompts "
            f"{short(list(prompts))}"
        )
    return {"prompts": prompts, "default_prompt": default}
