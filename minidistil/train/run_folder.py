"""A run's folder: its options and plan, metrics, checkpoints and report.

run.json        command, options, the plan, the instructions of matrix products, and digests of the
                inputs; never changed
metrics.jsonl   one line for each log or evaluation; what depends on the clock is under "time"
checkpoints/    see `minidistil.train.training_state`
report.json     the summary at the end

Under MPI rank 0 alone writes, and reads the checkpoint that a run is resumed from.
"""

import json
import shlex
import warnings
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from minidistil.io import files
from minidistil.io.checksums import unsealed, write_sealed
from minidistil.io.lock import exclusive_lock
from minidistil.io.ranks import by_rank_zero, world
from minidistil.train import training_state

RESULTS = ("run.json", "checkpoints", "config.json", "model.safetensors")
LOCK = f"{files.TEMPORARY}lock"  # held while a run writes; a killed run leaves the file
NOT_MINE = ("lost+found",)  # on a new disk; hidden files are ignored, too
UNSEALED = {"command", "options", "plan"}  # run.json of versions without checksums


class Run:
    """The folder `out` as a new run, or with resume=True an existing run that continues.

    command: the command line without `--out` and `--resume`; for messages and run.json.
    options: the command's options; `run.options` are the stored ones of a resumed run.
    Nothing is written before `start`. Raises ValueError when `out` already holds a run, a model or
    other files, and, with resume, when it holds no run.
    """

    def __init__(
        self, out: str | Path, command: str = "", options: dict | None = None, resume: bool = False
    ):
        if not str(out).strip():
            raise ValueError("the folder of a run has no name; give --out DIR")
        self.folder, self.command, self.options = Path(out), command, dict(options or {})
        self.resumed, self.plan, self.inputs, self._holds = resume, None, {}, False
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{out} is a file; a run needs a folder")
        if not resume:
            self._check_free()
            return
        if not (self.folder / "run.json").exists():
            raise ValueError(f"{out} holds no run to resume; start one without --resume")
        stored = _read(self.folder / "run.json")
        self.command, self.options = stored["command"], stored["options"]
        self.plan, self.inputs = stored["plan"], stored.get("inputs", {})

    @by_rank_zero
    def _check_free(self):
        there = [name for name in RESULTS if (self.folder / name).exists()]
        if there:
            raise ValueError(
                f"{self.folder} already holds {there[0]}; give --resume to go on with that run, "
                f"or choose another --out"
            )
        if (self.folder / LOCK).exists():  # the files are of a run killed before its start
            return
        others = self.folder.iterdir() if self.folder.is_dir() else ()
        others = sorted(p.name for p in others if p.name[0] != "." and p.name not in NOT_MINE)
        if others:
            raise ValueError(
                f"{self.folder} already holds {others[0]}, which no run wrote; choose another --out"
            )

    @contextmanager
    def held(self):
        """Lock the folder, which is created if missing, for this run until the block ends.

        Raises InUseError while another process or Run holds it, OSError if it cannot be created. A
        folder that is empty at the end is removed, with the parents created for it.
        """
        if self._holds or world().rank:
            yield
            return
        with ExitStack() as until_the_end:
            with files.errors_naming(self.folder):
                until_the_end.enter_context(files.folder_made(self.folder))
                until_the_end.enter_context(exclusive_lock(self.folder / LOCK, self.folder))
            if not self.resumed:  # another run may have begun and ended in the meantime
                self._check_free()
                files.remove(self.folder / "data")  # of a run killed before its start
            self._holds = True
            try:
                yield
            finally:
                self._holds = False

    def know(self, inputs: dict[str, str]) -> None:
        """Keep digests of the run's inputs, {name: digest}, for run.json.

        Raises ValueError if a resumed run began with other inputs, and names them; under MPI also
        if those of the ranks differ.
        """
        world().refuse_differences(inputs)
        changed = [name for name, now in inputs.items() if self.inputs.get(name, now) != now]
        if self.resumed and changed:
            raise ValueError(
                f"{' and '.join(changed)} changed since the run in {self.folder} began; put back "
                f"what was there, or start a new run elsewhere"
            )
        self.inputs |= inputs

    @by_rank_zero
    def start(self, plan, instructions=None):
        """Write run.json. plan: what was settled, such as the number of steps. instructions: what
        matrix products run on; their last bits differ elsewhere."""
        self.plan = plan
        stored = {"command": self.command, "options": self.options, "plan": plan,
                  "instructions": instructions}  # fmt: skip
        write_sealed(self.folder / "run.json", stored | {"inputs": self.inputs})
        self.rewind(-1)

    @by_rank_zero
    def rewind(self, step: int) -> None:
        """Remove the lines of metrics.jsonl after `step`, and an incomplete last line."""
        kept = [json.dumps(line) + "\n" for line in self.metrics() if line["step"] <= step]
        files.write_text(self.folder / "metrics.jsonl", "".join(kept))

    @by_rank_zero
    def log(self, line: dict) -> None:
        """Append a line to metrics.jsonl; values that are not finite become null."""
        text = json.dumps(files.jsonable(line), allow_nan=False) + "\n"
        files.append(self.folder / "metrics.jsonl", text)

    def metrics(self) -> list[dict]:
        """The complete lines of metrics.jsonl as dictionaries.

        Raises ValueError naming a line that is damaged.
        """
        path, lines = self.folder / "metrics.jsonl", []
        *whole, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
        for number, text in enumerate(whole, 1):
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                line = None
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                raise ValueError(
                    f"{path} line {number} is damaged: it is no JSON object with a step; delete "
                    f"the line, and the run continues without it"
                )
            lines.append(line)
        return lines

    @by_rank_zero
    def save(self, step: int, arrays: dict, state: dict) -> None:
        """Write a checkpoint, after the metrics so far are on disk."""
        files.sync(self.folder / "metrics.jsonl")
        training_state.save(self.folder, step, arrays, files.jsonable(state))

    def load(self) -> tuple[dict, dict] | None:
        """The newest complete checkpoint's (arrays, state), or None before the first one.

        A damaged newer one is deleted with a warning. Raises ValueError if all are damaged. Under
        MPI rank 0 reads it for all ranks.
        """
        return world().first(self._load)

    def _load(self):
        damaged = []
        path = training_state.latest(self.folder, damaged)
        if path is None and damaged:
            raise ValueError(
                f"no checkpoint of {self.folder} is whole: {damaged[0][1]}, and without any delete "
                f"{self.folder / 'checkpoints'} to start at step 0"
            )
        if path is None:
            return None
        found = training_state.load(path)
        for spoilt, error in damaged:
            reason = str(error).partition("; ")[0]
            warnings.warn(f"{reason}; it is deleted, and the run resumes from {path.name}",
                          stacklevel=2)  # fmt: skip
            files.remove(spoilt)
        return found

    @by_rank_zero
    def report(self, summary: dict) -> None:
        """Write report.json."""
        files.write_json(self.folder / "report.json", summary)

    @by_rank_zero
    def discard(self) -> None:
        """Remove a run that failed before its first checkpoint, and no other files."""
        with suppress(OSError):
            for name in ("metrics.jsonl", "run.json"):
                files.remove(self.folder / name)
        files.remove_empty(self.folder / "checkpoints", self.folder)

    def how_to_resume(self) -> str:
        """The command or the Python call that resumes the run."""
        if not self.command:
            return f"resume with Run({str(self.folder)!r}, resume=True)"
        return f"resume with: {self.command} --out {shlex.quote(str(self.folder))} --resume"


def _read(path):
    """run.json, with its checksum or of a version without checksums."""
    stored = files.read_json(path)
    if isinstance(stored, dict) and stored.keys() == UNSEALED:
        return stored
    return unsealed(path, stored)
