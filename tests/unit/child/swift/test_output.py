"""Reading what ms-swift prints. The lines are ms-swift 4.6's own."""

import time

import pytest

from trainer_svc.child.swift.output import (
    REDRAWN_EVERY_SECONDS,
    Line,
    LineCutter,
    Sign,
    Stage,
    Thinned,
    sign_of,
)

BAR = "Train:  38%|███▊      | 6/16 [00:01<00:01,  6.34it/s]"
SAVED = "[INFO:swift] Saving model checkpoint to /scratch/swift/checkpoint-6"


def test_lines_are_cut_at_returns_too_however_the_bytes_arrive() -> None:
    cutter = LineCutter()
    data = f"one\r\n\r{BAR}\r{BAR}\nthree".encode()

    lines = [line for byte in data for line in cutter.feed(bytes([byte]))]

    assert lines == [Line("one"), Line(BAR, redrawn=True), Line(BAR, redrawn=True)]
    assert cutter.drawn == "three"
    assert cutter.close() == [Line("three")]


def test_a_log_line_behind_a_bar_is_a_line_of_its_own() -> None:
    lines = LineCutter().feed(f"\r{BAR}{SAVED}\n".encode())

    assert lines == [Line(BAR, redrawn=True), Line(SAVED)]


def test_bytes_that_are_no_text_do_no_harm() -> None:
    (line,) = LineCutter().feed(b"\xff\xfe and text\n")

    assert line.text.endswith("and text")


def test_a_line_without_end_is_cut() -> None:
    lines = LineCutter().feed(b"x" * (3 << 20))

    assert sum(len(line.text) for line in lines) == 3 << 20


def test_bars_are_thinned_and_their_end_is_kept() -> None:
    thinned = Thinned()
    drawn = [
        Line(f"Train:  50%|#  | {step}/100 [00:00<?, ?it/s]", redrawn=True) for step in range(101)
    ]

    kept = [line for second, line in enumerate(drawn) if thinned.keeps(line, second / 10)]

    steps = [sign.done for line in kept if (sign := sign_of(line.text)) is not None]
    assert steps == ["0", "50", "100"]
    assert REDRAWN_EVERY_SECONDS == 5.0


def test_lines_are_never_thinned() -> None:
    thinned = Thinned()

    assert all(thinned.keeps(Line("{'loss': '8.472'}"), 0.0) for _ in range(3))


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        (BAR, Sign(Stage.TRAINING, "Train", "6", "16")),
        ("Train:   0%|          | 0/16 [00:00<?, ?it/s]", Sign(Stage.TRAINING, "Train", "0", "16")),
        ("Val:  38%|███▊      | 15/40 [00:00<00:00, 139.46it/s]", None),
        (
            "Loading weights:  92%|█████████▏| 22/24 [00:00<00:00, 3000.00it/s]",
            Sign(Stage.LOADING_MODEL, "Loading weights", "22", "24"),
        ),
        (
            "Map (num_proc=1):  50%|█████     | 200/400 [00:00<00:00, 3000.00 examples/s]",
            Sign(Stage.TOKENISING, "Map (num_proc=1)", "200", "400"),
        ),
        (
            "Downloading [model.safetensors]:  38%|███▊ | 1.16G/3.09G [00:30<00:50, 38.6MB/s]",
            Sign(Stage.DOWNLOADING, "Downloading [model.safetensors]", "1.16G", "3.09G"),
        ),
        (
            "Fetching 10 files:  40%|████      | 4/10 [00:03<00:05,  1.20it/s]",
            Sign(Stage.DOWNLOADING, "Fetching 10 files", "4", "10"),
        ),
        (SAVED, Sign(Stage.CHECKPOINT_WRITTEN, "/scratch/swift/checkpoint-6", done="6")),
        (SAVED.replace("[INFO:swift]", "[INFO|trainer.py:4108] >>"), None),
        (
            "[INFO:swift] model_parameter_info: Peft: 0.4308M Params (0.0328M Trainable [7.60%])",
            Sign(Stage.MODEL_LOADED, done="0.0328", total="0.4308"),
        ),
        ("[INFO:swift] model_kwargs: {'device_map': 'cpu'}", Sign(Stage.LOADING_MODEL)),
        ("ValueError: remaining_argv: ['--nonsense', '1']", None),
        ("", None),
    ],
)
def test_what_a_line_tells(text: str, sign: Sign | None) -> None:
    assert sign_of(text) == sign


@pytest.mark.parametrize("piece", [" ", "1", " 1", "100%|", "Saving model checkpoint to "])
def test_a_long_row_of_the_data_takes_no_time_to_read(piece: str) -> None:
    row = piece * (200_000 // len(piece))
    began = time.monotonic()

    lines = LineCutter().feed(f"{row}x\n".encode())
    signs = [sign_of(line.text) for line in lines]

    assert time.monotonic() - began < 2.0
    assert signs == [None]
