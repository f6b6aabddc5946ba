"""Looks at every row as ms-swift's training will: python prepass.py [--pictures], a JSON
request on stdin.

Runs in ms-swift's environment, on the CPU, without the model's weights: the
template and processor are made from the very arguments that training gets, so
what it says of a row is what training would make of it. Each part's verdicts
are a JSON Lines file: first {"versions", "rows", "blind", "thought_marks"}, then
a line for each row, [tokens, supervised tokens, fate, why, length, segments]. The
length is in tokens, before the row is cut; segments are the row's text and loss (as
in row_segments.py), for the first rows that are kept, as many as were asked for.
"blind" says why rows could not be looked at, if so: a template may need the model
itself, which is not loaded here; "thought_marks" is what stands before and after a
thought in this template, null if it knows none. With --pictures it first asks
whether the model reads any, and ends with an exit code of its own where it does
not.

Says in its output when it is ready to be asked; everything slow to import is
imported before that.
"""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, dataclass
from itertools import groupby
from typing import Any

if __package__:
    from trainer_svc.child.swift.inside.row_segments import segments_of
else:  # started as a script, in another environment: it stands beside this file
    from row_segments import segments_of  # type: ignore[import-not-found,no-redef]

KEPT, TRUNCATED, TOO_LONG, NO_SUPERVISED, REFUSED, REFUSED_KIND = range(6)
LIBRARIES = ("ms-swift", "torch", "transformers", "peft", "trl", "datasets", "accelerate")
IGNORED = -100
WHY_CHARS = 500
# Below this many rows, starting processes costs more than it saves.
PARALLEL_ROWS = 512
PROCESSES_MAX = 8
CHUNK_ROWS = 128
TOLD_EVERY_SECONDS = 10.0
# The exit code of what was killed, as a shell says it.
KILLED = 128 + 9
# Given by a job whose rows have pictures; the exit code for a model that reads none.
PICTURES = "--pictures"
READS_NO_PICTURES = 65
THINK, THINK_LINE = "<think>", "<think>\n"
# What `swift pt` means, where the arguments do not say otherwise.
PLAIN_TEXT = {"use_chat_template": "false", "loss_scale": "all"}


BLIND = "this model's template needs the model itself to read a row"


class NeedsModel(Exception):
    """A template has asked for something of the model."""


class NotLoaded:
    """Stands where templates look for the model; most that want one do so in training only."""

    def __getattr__(self, name: str) -> Any:
        raise NeedsModel(name)


@dataclass(frozen=True)
class Look:
    """A template, and how rows that are too long for it are treated."""

    template: Any
    max_length: int
    cuts: bool
    thought_marks: tuple[str, str] | None = None

    def at(self, row: dict[str, Any]) -> list[Any]:
        """[tokens, supervised tokens, fate, why, length, []] of one row."""
        try:
            return [*self._verdict(row), []]
        except (ImportError, MemoryError, NeedsModel):  # no fault of the row's
            raise
        except Exception as error:
            return [0, 0, REFUSED, f"{type(error).__name__}: {error}"[:WHY_CHARS], 0, []]

    def segments(self, row: dict[str, Any], fate: int) -> list[list[Any]]:
        """The text of a row that is kept, and where in it there is loss."""
        encoded = self._encoded(row, self.max_length if fate == TRUNCATED else None)
        trained = [False, *learnt_tokens(encoded)]
        found = segments_of(encoded["input_ids"], trained, self._decode)
        return [list(astuple(segment)) for segment in found]

    def _decode(self, ids: Any) -> str:
        tokenizer = self.template.tokenizer
        text = ""
        # For some models ms-swift puts negative ids where a picture's values go later.
        for placeholder, group in groupby(ids, lambda token: token < 0):
            plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
            text += "<image>" if placeholder else tokenizer.decode(list(group), **plain)
        return text

    def _verdict(self, row: dict[str, Any]) -> list[Any]:
        length, supervised = self._encode(row, None)
        if not supervised:
            return [length, 0, NO_SUPERVISED, "", length]
        if length <= self.max_length:
            return [length, supervised, KEPT, "", length]
        if not self.cuts:
            return [length, supervised, TOO_LONG, "", length]
        tokens, supervised = self._encode(row, self.max_length)
        fits = supervised and tokens <= self.max_length
        return [tokens, supervised, TRUNCATED if fits else TOO_LONG, "", length]

    def _encode(self, row: dict[str, Any], max_length: int | None) -> tuple[int, int]:
        encoded = self._encoded(row, max_length)
        return len(encoded["labels"]), sum(learnt_tokens(encoded))

    def _encoded(self, row: dict[str, Any], max_length: int | None) -> Any:
        self.template.max_length = max_length
        return self.template.encode(row)


def learnt_tokens(encoded: Any) -> list[bool]:
    """Whether each token but the first carries loss: the first is predicted from nothing, so a
    label there counts for nothing."""
    labels = encoded["labels"]
    weights = encoded.get("loss_scale") or [1] * len(labels)
    learnt = zip(labels[1:], weights[1:], strict=True)
    return [label != IGNORED and weight > 0 for label, weight in learnt]


def main() -> int:
    """Answers one request; the exit code."""
    parse, base_arguments = import_swift()
    print("ready to look at the rows", flush=True)
    request = json.loads(sys.stdin.readline())
    arguments = read_arguments(request["argv"], parse, base_arguments)
    _, processor = arguments.get_model_processor(load_model=False)
    template = arguments.get_template(processor)
    if PICTURES in sys.argv[1:] and not template.model_meta.is_multimodal:
        return READS_NO_PICTURES
    template.set_mode("train")
    if getattr(template, "use_model", False):
        template.model = NotLoaded()
    look = Look(
        template,
        arguments.max_length,
        template.truncation_strategy in ("left", "right"),
        thought_marks(getattr(template, "template_meta", None)),
    )
    if any(part.get("dataset") for part in request["parts"]):
        refuse_code_of_data_sets()
    try:
        for part in request["parts"]:
            answer(part, look, arguments)
    except BrokenProcessPool:  # the system kills one that takes too much memory
        print("a process that looked at rows was killed", file=sys.stderr, flush=True)
        return KILLED
    return 0


def import_swift() -> tuple[Any, Any]:
    """(parse_args, BaseArguments) of the version that is installed."""
    from swift.utils import parse_args  # type: ignore[import-not-found]

    try:
        import swift.template.base  # type: ignore[import-not-found]  # slow
        from swift.arguments.base_args import BaseArguments  # type: ignore[import-not-found]
    except ImportError:  # ms-swift 3
        import swift.llm.template.base  # type: ignore[import-not-found]  # noqa: F401
        from swift.llm import BaseArguments

    return parse_args, BaseArguments


def read_arguments(argv: list[str], parse: Any, base_arguments: Any) -> Any:
    """The arguments that all of ms-swift's commands share; training's own are left alone."""
    command, *words = argv
    # Else ms-swift takes more of them, and plugins, from an args.json in the model's folder.
    words += ["--load_args", "false"]
    if command == "pt":
        for name, value in PLAIN_TEXT.items():
            if f"--{name}" not in words:
                words += [f"--{name}", value]
    arguments, _ = parse(base_arguments, words)
    return arguments


def answer(part: dict[str, Any], look: Look, arguments: Any) -> None:
    """Writes one part's verdicts: of the rows of a file, or of a data set on ModelScope."""
    verdicts: Iterator[list[Any]]
    if part.get("dataset"):
        rows = hub_rows(part["dataset"], arguments)
        count = len(rows)
        verdicts = (refused_kind(row) or look.at(row) for row in rows)
        originals: Iterator[dict[str, Any]] = iter(rows)
    else:
        chunks = list(chunks_of(part["rows"]))
        count = sum(size for _, size in chunks)
        verdicts = by_chunks(part["rows"], chunks, look)
        originals = rows_in(part["rows"], look.thought_marks)
    if part["show"]:
        ends = part.get("row_ends", [count])
        verdicts = with_segments(verdicts, originals, ends, part["show"], look)
    with open(part["verdicts"], "w", encoding="utf-8") as out:
        try:
            out.write(header_of(count, look, ""))
            for verdict in told(verdicts, count, part["name"]):
                out.write(json.dumps(verdict, ensure_ascii=False) + "\n")
        except NeedsModel:
            out.seek(0)
            out.truncate()
            out.write(header_of(count, look, BLIND))


def header_of(rows: int, look: Look, blind: str) -> str:
    """The first line of a part's verdicts."""
    header = {
        "versions": versions(),
        "rows": rows,
        "blind": blind,
        "thought_marks": look.thought_marks,
    }
    return json.dumps(header) + "\n"


def with_segments(
    verdicts: Iterator[list[Any]],
    rows: Iterator[dict[str, Any]],
    row_ends: list[int],
    shown: int,
    look: Look,
) -> Iterator[list[Any]]:
    """The same, with the text of the first rows of each source that are kept. A source ends
    before the row whose number is in `row_ends`."""
    begin = 0
    for end in row_ends:
        left = shown
        for _ in range(begin, end):
            verdict, row = next(verdicts), next(rows)
            if left and verdict[2] in (KEPT, TRUNCATED):
                verdict[-1] = look.segments(row, verdict[2])
                left -= 1
            yield verdict
        begin = end


def rows_in(path: str, marks: tuple[str, str] | None) -> Iterator[dict[str, Any]]:
    """The rows of a file, as ms-swift has them once they are loaded."""
    with open(path, "rb") as file:
        for line in file:
            yield as_swift_reads(json.loads(line), marks)


def hub_rows(dataset: str, arguments: Any) -> Any:
    """The rows of a data set, downloaded and understood as training does it."""
    try:
        from swift.dataset import load_dataset  # type: ignore[import-not-found]
    except ImportError:  # ms-swift 3
        from swift.llm import load_dataset
    rows, _ = load_dataset(
        [dataset],
        split_dataset_ratio=0.0,
        shuffle=arguments.dataset_shuffle,
        **arguments.get_dataset_kwargs(),
    )
    return rows


def refuse_code_of_data_sets() -> None:
    """ms-swift lets a data set on a hub bring code; here one that does is an error, before
    training gets to load it. A model that may bring code changes nothing about that."""
    import datasets  # type: ignore[import-untyped]
    import modelscope  # type: ignore[import-not-found]

    modelscope.MsDataset.load = distrusting(modelscope.MsDataset.load)
    datasets.load_dataset = distrusting(datasets.load_dataset)


def distrusting(load: Any) -> Any:
    """The same function, with trust_remote_code false whoever asks for it."""

    def load_without_code(*args: Any, **kwargs: Any) -> Any:
        if "trust_remote_code" in kwargs:
            kwargs["trust_remote_code"] = False
        return load(*args, **kwargs)

    return load_without_code


def chunks_of(path: str) -> Iterator[tuple[int, int]]:
    """(offset, rows) of each run of lines that one process takes at a time."""
    offset, begin, rows = 0, 0, 0
    with open(path, "rb") as file:
        for line in file:
            offset += len(line)
            rows += 1
            if rows == CHUNK_ROWS:
                yield begin, rows
                begin, rows = offset, 0
    if rows:
        yield begin, rows


_shared: tuple[str, Look] | None = None


def by_chunks(path: str, chunks: list[tuple[int, int]], look: Look) -> Iterator[list[Any]]:
    """The verdicts in the order of the rows; in several processes where there are many rows."""
    global _shared
    _shared = (path, look)
    processes = min(PROCESSES_MAX, len(os.sched_getaffinity(0)))
    if processes == 1 or sum(rows for _, rows in chunks) < PARALLEL_ROWS:
        for chunk in chunks:
            yield from look_at_chunk(chunk)
        return
    # Forked: a template cannot be pickled, and importing ms-swift takes seconds.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=fork) as pool:
        for verdicts in pool.map(look_at_chunk, chunks):
            yield from verdicts


def look_at_chunk(chunk: tuple[int, int]) -> list[list[Any]]:
    """The verdicts on one run of lines."""
    if _shared is None:
        raise AssertionError("there are no rows to look at")
    path, look = _shared
    offset, rows = chunk
    with open(path, "rb") as file:
        file.seek(offset)
        return [look_at_row(json.loads(file.readline()), look) for _ in range(rows)]


def look_at_row(row: dict[str, Any], look: Look) -> list[Any]:
    """The verdict on one row of a file."""
    if look.thought_marks is None and any(one.get("reasoning_content") for one in row["messages"]):
        name = getattr(getattr(look.template, "template_meta", None), "template_type", "")
        why = f"a turn has a thought, and ms-swift's template {name!r} has no marks for thoughts"
        return [0, 0, REFUSED, why, 0, []]
    return look.at(as_swift_reads(row, look.thought_marks))


def thought_marks(meta: Any) -> tuple[str, str] | None:
    """What this template puts before and after a thought, judged by what it begins an answer
    with: one that is thought about, and one that is not."""
    opening = getattr(meta, "thinking_prefix", "") or ""
    none = getattr(meta, "non_thinking_prefix", "") or ""
    if opening and none:
        return opening, none.removeprefix(opening)
    if THINK in none:
        opening = THINK_LINE if none.startswith(THINK_LINE) else THINK
        return opening, none.removeprefix(opening)
    if THINK in opening:
        return opening, "\n</think>\n\n" if opening.endswith("\n") else "</think>"
    return None


def refused_kind(row: dict[str, Any]) -> list[Any] | None:
    """The verdict on a row of a hub's data set that is not for imitation: training would learn
    from it all the same."""
    if row.get("rejected_messages") or row.get("rejected_response"):
        why = "this is preference data; this job learns by imitation (SFT)"
    elif isinstance(row.get("label"), bool):
        why = "this is data with good and bad answers; this job learns by imitation (SFT)"
    else:
        return None
    return [0, 0, REFUSED_KIND, why, 0, []]


def as_swift_reads(row: dict[str, Any], marks: tuple[str, str] | None) -> dict[str, Any]:
    """A row as ms-swift has it once it is loaded."""
    messages = []
    for one in row["messages"]:
        content = one["content"]
        if marks and one.get("reasoning_content"):
            content = f"{marks[0]}{one['reasoning_content']}{marks[1]}{content}"
        messages.append({"role": one["role"], "content": content, "loss": one.get("loss")})
    loaded: dict[str, Any] = {"messages": messages}
    if row.get("images"):
        loaded["images"] = [{"bytes": None, "path": path} for path in row["images"]]
    return loaded


def told(verdicts: Iterator[list[Any]], count: int, name: str) -> Iterator[list[Any]]:
    """The same, saying now and then how far it is."""
    last = time.monotonic()
    for done, verdict in enumerate(verdicts, start=1):
        yield verdict
        if time.monotonic() - last >= TOLD_EVERY_SECONDS:
            last = time.monotonic()
            print(f"looked at {done:,} of {count:,} {name} rows", flush=True)


def versions() -> dict[str, str]:
    """The versions of what trains."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what it imported would take a second to be taken down
