"""From rows to token ids: what is kept, cut, left out, and in how much memory."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
import pytest
from google.protobuf.json_format import MessageToDict

from tests.unit.child.launching import call_warm
from trainer_svc.child.arrow_rows import WRITE_BYTES, arrow_file
from trainer_svc.child.dialogue import Message, as_columns
from trainer_svc.child.encoding import sieve
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.inspection import IGNORED
from trainer_svc.child.masks import Encoders
from trainer_svc.child.prepare import ROWS, TOKENS, Recipe, _encoding, prepare
from trainer_svc.child.receipts import Tally
from trainer_svc.child.source_rows import Rules, file_source

pytestmark = pytest.mark.filterwarnings("default")


ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['content'] }}{% endfor %}"
)
ANY_SHARE = Rules(max_dropped_fraction=1.0)


def recipe_of(model: Path, max_length: int = 64, rules: Rules = ANY_SHARE) -> Recipe:
    from transformers import AutoTokenizer

    encoders = Encoders(AutoTokenizer.from_pretrained(model), assistant_only=True)
    return Recipe(encoders, max_length, rules)


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chat(question: str, *answers: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    messages += [{"role": "assistant", "content": answer} for answer in answers]
    return {"messages": messages}


def prepared(
    model: Path,
    path: Path,
    max_length: int = 64,
    limit: int | None = None,
    rules: Rules = ANY_SHARE,
) -> tuple[Any, Tally]:
    tallies: list[Tally] = []
    source = file_source(path.name, path, "", "train", None, limit)
    recipe = recipe_of(model, max_length, rules)
    folder = path.parent / f"cache-{max_length}"
    rows = prepare("train", [source], recipe, folder, tallies.append)
    return rows, tallies[0]


def test_each_row_read_is_kept_or_counted_with_its_place(assets: Path, tmp_path: Path) -> None:
    long = "hammer " * 100
    rows = [chat("Where?", "Here."), chat("Where?", long), chat(long, "Here."), chat("q")]
    rows += [{"messages": []}, chat("Where?", ""), chat("Where?", "There.")]
    path = write_rows(tmp_path / "data.jsonl", rows)

    tokens, tally = prepared(assets / "model", path)

    receipt = MessageToDict(tally.receipt(), preserving_proto_field_name=True)
    dropped = {entry["reason"]: entry["places"] for entry in receipt.pop("dropped")}
    assert dropped == {
        "too_long": [f"{path}:3"],
        "no_assistant_turn": [f"{path}:4"],
        "empty": [f"{path}:5"],
    }
    assert receipt["rows_read"] == "7"
    assert receipt["rows_kept"] == "4"
    assert receipt["rows_truncated"] == "1"
    assert len(tokens) == 4
    assert receipt["tokens"] == str(sum(len(row["input_ids"]) for row in tokens))
    supervised = sum(label != IGNORED for row in tokens for label in row["labels"])
    assert receipt["supervised_tokens"] == str(supervised)


def test_a_long_row_is_cut_at_its_end(assets: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", [chat("Where?", "hammer " * 100)])

    whole, _ = prepared(assets / "model", path, max_length=4096)
    cut, tally = prepared(assets / "model", path, max_length=40)

    assert cut[0]["input_ids"] == whole[0]["input_ids"][:40]
    assert cut[0]["labels"] == whole[0]["labels"][:40]
    assert tally.rows_truncated == 1


def test_labels_are_the_ids_where_there_is_loss(assets: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", [chat("Where?", "Here.")])

    tokens, _ = prepared(assets / "model", path)

    row = tokens[0]
    pairs = list(zip(row["input_ids"], row["labels"], strict=True))
    assert {label for _, label in pairs} != {IGNORED}
    assert all(label in (IGNORED, token) for token, label in pairs)


def test_only_the_first_n_rows_are_read(assets: Path, tmp_path: Path) -> None:
    rows = [chat("Where?", f"Place {number}.") for number in range(9)]
    path = write_rows(tmp_path / "data.jsonl", rows)

    tokens, tally = prepared(assets / "model", path, limit=4)

    assert len(tokens) == tally.rows_read == 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([chat("a", "b"), {"messages": [{"role": "x"}]}], ":2: message 1: unknown role 'x'"),
        ([{"question": "a"}], ':1: expected one of the keys "messages", .* found: question'),
        ([chat("hammer " * 99, "b")], "every row of .* is too long"),
        ([{"messages": []}], "no row of .* can be used; .* empty: 1"),
    ],
)
def test_data_without_use_is_refused(
    assets: Path, tmp_path: Path, rows: list[Any], message: str
) -> None:
    path = write_rows(tmp_path / "data.jsonl", rows)

    with pytest.raises(RunFailed, match=message) as caught:
        prepared(assets / "model", path)

    assert caught.value.cause is Cause.DATASET_INVALID
    assert str(path) in str(caught.value)


def test_an_empty_list_has_no_rows(assets: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text("[]")

    with pytest.raises(RunFailed, match="has no rows"):
        prepared(assets / "model", path)


def test_a_dialogue_that_the_template_refuses_is_named(plain_model: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", [chat("a", "b"), chat("a", "b", "c")])
    recipe = recipe_of(plain_model)
    tokenizer: Any = recipe.encoders._tokenizer
    tokenizer.chat_template = ALTERNATING
    source = file_source(path.name, path, "", "train", None, None)

    with pytest.raises(RunFailed, match=r"data.jsonl:2: the chat template .* must alternate"):
        prepare("train", [source], recipe, tmp_path / "cache", lambda tally: None)


def test_such_a_dialogue_is_left_out_of_a_job_that_is_not_strict(
    plain_model: Path, tmp_path: Path
) -> None:
    rows = [chat("Where?", "It is here."), chat("Where?", "Here.", "Or there.")]
    path = write_rows(tmp_path / "data.jsonl", rows)
    recipe = recipe_of(plain_model, rules=Rules(strict=False, max_dropped_fraction=1.0))
    tokenizer: Any = recipe.encoders._tokenizer
    tokenizer.chat_template = ALTERNATING
    source = file_source(path.name, path, "", "train", None, None)
    tallies: list[Tally] = []

    kept = prepare("train", [source], recipe, tmp_path / "cache", tallies.append)

    assert len(kept) == 1
    assert tallies[0].dropped["malformed"].places == [f"{path}:2"]


@pytest.mark.parametrize(("allowed", "fails"), [(0.25, False), (0.24, True)])
def test_what_is_left_out_in_encoding_counts_to_the_share(
    assets: Path, tmp_path: Path, allowed: float, fails: bool
) -> None:
    rows = [chat("Where?", "Here."), chat("hammer " * 99, "b"), *[chat("a", "b")] * 2]
    path = write_rows(tmp_path / "data.jsonl", rows)
    rules = Rules(max_dropped_fraction=allowed)

    if not fails:
        assert len(prepared(assets / "model", path, rules=rules)[0]) == 3
        return

    with pytest.raises(RunFailed, match=r"1 of 4 rows .* allows: too_long: 1 \(.*data.jsonl:2\)"):
        prepared(assets / "model", path, rules=rules)


def test_plain_text_is_learnt_whole_and_needs_no_chat_template(
    assets: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "data.jsonl", [{"text": "Where is the hammer?"}] * 2)
    rules = Rules(system_prompt="be kind")
    recipe = recipe_of(assets / "model", rules=rules)
    tokenizer: Any = recipe.encoders._tokenizer
    tokenizer.chat_template = None
    source = file_source(path.name, path, "", "train", None, None)

    tokens = prepare("train", [source], recipe, tmp_path / "cache", lambda tally: None)

    ids = tokens[0]["input_ids"]
    assert tokenizer.decode(ids[:-1]) == "Where is the hammer?"
    assert ids[-1] == tokenizer.eos_token_id
    assert tokens[0]["labels"] == ids


def test_dialogues_still_need_a_chat_template(assets: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", [chat("a", "b")])
    recipe = recipe_of(assets / "model")
    tokenizer: Any = recipe.encoders._tokenizer
    tokenizer.chat_template = None
    source = file_source(path.name, path, "", "train", None, None)

    with pytest.raises(RunFailed, match="no chat template") as caught:
        prepare("train", [source], recipe, tmp_path / "cache", lambda tally: None)

    assert caught.value.cause is Cause.MODEL_INVALID


def test_texts_and_dialogues_go_into_one_set(assets: Path, tmp_path: Path) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": "Where is the hammer?"}] * 2)
    chats = write_rows(tmp_path / "chats.jsonl", [chat("a", "b")] * 3)
    sources = [file_source(path.name, path, "", "train", None, None) for path in (texts, chats)]
    tallies: list[Tally] = []

    tokens = prepare(
        "train", sources, recipe_of(assets / "model"), tmp_path / "cache", tallies.append
    )

    assert [tally.rows_kept for tally in tallies] == [2, 3]
    assert tokens[0]["labels"] == tokens[0]["input_ids"]
    assert IGNORED in tokens[4]["labels"]


def peak_growth_bytes(model: Path, path: Path, folder: Path) -> tuple[int, int]:
    """How much anonymous memory grew at most while `path` was prepared, and rows kept."""
    import threading

    def anonymous() -> int:
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024

    recipe = recipe_of(model, max_length=512)
    before = peak = anonymous()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous())

    threading.Thread(target=watch, daemon=True).start()
    source = file_source(path.name, path, "", "train", None, None)
    rows = prepare("train", [source], recipe, folder, lambda tally: None)
    done.set()
    return peak - before, len(rows)


def test_memory_does_not_grow_with_the_rows(assets: Path, tmp_path: Path) -> None:
    dialogue = json.dumps(["where " * 8, "here " * 8])
    for rows in (1_000, 12_000):
        text = '{"train": [' + ",".join([dialogue] * rows) + "]}"
        (tmp_path / f"{rows}.json").write_text(text)

    few, few_rows = call_warm(
        peak_growth_bytes, assets / "model", tmp_path / "1000.json", tmp_path / "few"
    )
    many, many_rows = call_warm(
        peak_growth_bytes, assets / "model", tmp_path / "12000.json", tmp_path / "many"
    )

    assert (few_rows, many_rows) == (1_000, 12_000)
    # Twelve times the rows: their texts and ids alone would be over 20 MB more as lists.
    assert many - few < 8 << 20, (few, many)


def test_long_rows_are_written_in_batches_that_fit(tmp_path: Path) -> None:
    text = "x" * (WRITE_BYTES // 8)
    row = as_columns([Message("user", text), Message("assistant", text)])

    with arrow_file(tmp_path / "rows.arrow", ROWS) as writer:
        for number in range(10):
            writer.add({**row, "place": f"data.jsonl:{number}"})

    with pa.memory_map(str(tmp_path / "rows.arrow")) as file, pa.ipc.open_stream(file) as stream:
        batches = list(stream)
    assert [batch.num_rows for batch in batches] == [4, 4, 2]


NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}<|im_end|>\n{% endfor %}"
)
SYSTEM = {"role": "system", "content": "Be brief."}


def with_template(model: Path, template: str, rules: Rules) -> Recipe:
    recipe = recipe_of(model, rules=rules)
    tokenizer: Any = recipe.encoders._tokenizer
    tokenizer.chat_template = template
    return recipe


def test_a_system_message_without_a_role_for_it_has_a_reason_of_its_own(
    plain_model: Path, tmp_path: Path
) -> None:
    told = {"messages": [SYSTEM, *chat("Where?", "Here.")["messages"]]}
    path = write_rows(tmp_path / "data.jsonl", [chat("Where?", "Here."), told])
    lenient = Rules(strict=False, max_dropped_fraction=1.0)
    tallies: list[Tally] = []

    with pytest.raises(RunFailed, match=r"data.jsonl:2: .* has no system role") as caught:
        source = file_source(path.name, path, "", "train", None, None)
        recipe = with_template(plain_model, NO_SYSTEM, ANY_SHARE)
        prepare("train", [source], recipe, tmp_path / "strict", lambda tally: None)
    source = file_source(path.name, path, "", "train", None, None)
    recipe = with_template(plain_model, NO_SYSTEM, lenient)
    prepare("train", [source], recipe, tmp_path / "lenient", tallies.append)

    assert "system role" in caught.value.hint
    assert tallies[0].dropped["no_system_role"].places == [f"{path}:2"]


def test_a_system_prompt_that_the_template_has_no_role_for_is_the_jobs_fault(
    plain_model: Path,
) -> None:
    encoders = with_template(plain_model, NO_SYSTEM, ANY_SHARE).encoders

    with pytest.raises(RunFailed, match="has no system role, and the job has") as caught:
        encoders.require_system_role()

    assert caught.value.cause is Cause.CONFIG_INVALID
    assert "Leave out system_prompt" in caught.value.hint


DROPS = (
    "{% for m in messages %}[{{ m['role'] }}] {% if loop.last and m.reasoning_content %}<think>"
    "{{ m.reasoning_content }}</think>{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
)


def test_thoughts_that_a_template_leaves_out_are_counted(plain_model: Path, tmp_path: Path) -> None:
    place = "data.jsonl:1"
    thought = "Let me see."
    dialogue = [
        Message("user", "Where?"),
        Message("assistant", "Here.", thought=thought),
        Message("user", "Sure?"),
        Message("assistant", "Yes.", thought=thought),
    ]
    recipe = with_template(plain_model, DROPS, ANY_SHARE)
    with arrow_file(tmp_path / "rows.arrow", ROWS) as writer:
        writer.add({**as_columns(dialogue), "place": place})
    encoding = _encoding(recipe, plain=False)
    assert encoding is not None
    tally = Tally("train", "data", "data", 64, rows_read=1)

    with arrow_file(tmp_path / "kept.arrow", TOKENS) as kept:
        sieve(encoding.encoded(tmp_path / "rows.arrow", 1), tally, recipe.rules, kept)

    assert tally.receipt().thoughts_dropped == 1
    assert tally.rows_kept == 1
