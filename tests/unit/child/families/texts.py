"""The families of text models, and what is learnt with their chat templates.

What is learnt is written down by hand, from what a model of the family writes itself after its
prompt. The tests of this folder hold every line true, and docs/models.md is made from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIRST, LAST = "In the box.", "You are welcome."
THOUGHT_FIRST, THOUGHT_LAST = "Look first.", "Be polite."
NO_SYSTEM = "no_system_role"
NO_THOUGHT = "thought_not_rendered"

KINDS: Mapping[str, str] = {
    "single": "one question, one answer (LAST)",
    "dialogue": "two answers, FIRST and LAST",
    "system": "the same with a system message",
    "thought": "the same with a thought before LAST",
    "thoughts": "the same with a thought before each",
}
Learnt = tuple[str, ...] | str
"""The stretches of a dialogue that carry loss, or the reason why it is left out."""


@dataclass(frozen=True)
class SmallTokenizer:
    """One trained in the test, with the special tokens of the published one."""

    special: tuple[str, ...]
    bos: str
    eos: str


@dataclass(frozen=True)
class TextFamily:
    """One family. `template` is where its chat template comes from, `tokenizer` a package or
    what to train instead.

    `learnt` says for each kind of row (KINDS) what carries loss, or why it is left out; kinds
    that it lacks are left out for their thoughts. `dropped`: answers of "thoughts" that carry no
    loss."""

    name: str
    title: str
    template: str
    tokenizer: str | SmallTokenizer
    learnt: Mapping[str, Learnt]
    dropped: int = 0
    architecture: str = "llama"
    note: str = ""

    def of(self, kind: str) -> Learnt:
        """What is learnt of rows of that kind."""
        return self.learnt.get(kind, NO_THOUGHT)


def _plain(before: str, end: str, end_before: str | None = None) -> dict[str, tuple[str, ...]]:
    """For families whose answers are written alike, whatever stands before them."""
    first = f"{before}{FIRST}{end if end_before is None else end_before}"
    last = f"{before}{LAST}{end}"
    return {"single": (last,), "dialogue": (first, last), "system": (first, last)}


IM = "<|im_end|>"
CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
EMPTY = "<think>\n\n</think>\n\n"
PHI3 = SmallTokenizer(
    ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"), "", "<|endoftext|>"
)
GLM = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|endoftext|>")
QWEN3_THOUGHT = f"<think>\n{THOUGHT_LAST}\n</think>\n\n{LAST}{IM}\n"
R1 = "<｜Assistant｜>"  # noqa: RUF001  # the bars are full-width
R1_END = "<｜end▁of▁sentence｜>"  # noqa: RUF001
CHANNEL = "<|start|>assistant<|channel|>"
KEPT = "Thoughts of earlier turns are kept and learnt."
LEFT_OUT = "An earlier answer whose thought the template leaves out carries no loss."

QWEN3 = {
    "single": (f"{EMPTY}{LAST}{IM}\n",),
    "dialogue": (f"{EMPTY}{FIRST}{IM}\n", f"{EMPTY}{LAST}{IM}\n"),
    "system": (f"{EMPTY}{FIRST}{IM}\n", f"{EMPTY}{LAST}{IM}\n"),
    "thought": (f"{EMPTY}{FIRST}{IM}\n", QWEN3_THOUGHT),
    "thoughts": (f"<think>\n{THOUGHT_FIRST}\n</think>\n\n{FIRST}{IM}\n", QWEN3_THOUGHT),
}
DEEPSEEK = {
    **_plain(R1, R1_END),
    "thought": (
        f"{R1}{FIRST}{R1_END}",
        f"{R1}<think>\n{THOUGHT_LAST}\n</think>\n\n{LAST}{R1_END}",
    ),
    "thoughts": (
        f"{R1}<think>\n{THOUGHT_FIRST}\n</think>\n\n{FIRST}{R1_END}",
        f"{R1}<think>\n{THOUGHT_LAST}\n</think>\n\n{LAST}{R1_END}",
    ),
}

QWEN3_THINKING = {
    "single": (f"\n\n</think>\n\n{LAST}{IM}",),
    "dialogue": (f"{FIRST}{IM}", f"\n\n</think>\n\n{LAST}{IM}"),
    "system": (f"{FIRST}{IM}", f"\n\n</think>\n\n{LAST}{IM}"),
    "thought": (f"{FIRST}{IM}", f"{THOUGHT_LAST}\n</think>\n\n{LAST}{IM}"),
    "thoughts": (f"{THOUGHT_LAST}\n</think>\n\n{LAST}{IM}",),
}
HEADER = "<|im_start|>assistant\n"
SMOLLM3 = {
    **_plain(HEADER, f"{IM}\n"),
    "thought": (f"{HEADER}{FIRST}{IM}\n", f"{HEADER}{QWEN3_THOUGHT}"),
    "thoughts": (
        f"{HEADER}<think>\n{THOUGHT_FIRST}\n</think>\n\n{FIRST}{IM}\n",
        f"{HEADER}{QWEN3_THOUGHT}",
    ),
}
GLM4_MOE = {
    **_plain("\n<think></think>\n", "<|user|>"),
    "thought": (
        f"\n<think></think>\n{FIRST}<|user|>",
        f"\n<think>{THOUGHT_LAST}</think>\n{LAST}<|user|>",
    ),
    "thoughts": (f"\n<think>{THOUGHT_LAST}</think>\n{LAST}<|user|>",),
}
GPT_OSS_LAST = (
    f"{CHANNEL}analysis<|message|>{THOUGHT_LAST}<|end|>{CHANNEL}final<|message|>{LAST}<|return|>"
)
GPT_OSS = {
    **_plain(f"{CHANNEL}final<|message|>", "<|return|>", "<|end|>"),
    "thought": (f"{CHANNEL}final<|message|>{FIRST}<|end|>", GPT_OSS_LAST),
    "thoughts": (GPT_OSS_LAST,),
}

FAMILIES: Sequence[TextFamily] = (
    TextFamily(
        "qwen3_first", "Qwen3, first release", "package", "qwen3", QWEN3,
        architecture="qwen3", note=KEPT,
    ),
    TextFamily(
        "qwen3", "Qwen3", "trl:qwen3", "qwen3", QWEN3,
        architecture="qwen3", note=KEPT,
    ),
    TextFamily(
        "qwen3_instruct_2507", "Qwen3-Instruct-2507", "trl:qwen3_instruct_2507", "qwen3",
        _plain("", f"{IM}\n"),
        architecture="qwen3",
    ),
    TextFamily(
        "qwen3_thinking_2507", "Qwen3-Thinking-2507", "form:qwen3_thinking_2507", "qwen3",
        QWEN3_THINKING, dropped=1, architecture="qwen3", note=LEFT_OUT,
    ),
    TextFamily(
        "qwen2_5", "Qwen2.5", "package", "qwen2_5", _plain("\n", f"{IM}\n"), architecture="qwen2",
    ),
    TextFamily(
        "llama2", "Llama 2", "form:llama2", "llama2", _plain("", " </s>"),
    ),
    TextFamily(
        "llama3", "Llama 3", "trl:llama3", "llama3", _plain("", "<|eot_id|>"),
    ),
    TextFamily(
        "llama3_early", "Llama 3, first release", "package", "llama3",
        _plain("", "<|eot_id|>"),
    ),
    TextFamily(
        "llama3_1", "Llama 3.1", "trl:llama3_1", "llama3_1", _plain("", "<|eot_id|>"),
    ),
    TextFamily(
        "llama3_2", "Llama 3.2", "trl:llama3_2", "llama3_1", _plain("", "<|eot_id|>"),
    ),
    TextFamily(
        "mistral_v1", "Mistral 7B v0.1, v0.2", "form:mistral_v1", "llama2",
        {**_plain("", "</s>"), "system": NO_SYSTEM}, architecture="mistral",
    ),
    TextFamily(
        "mistral_v3", "Mistral 7B v0.3", "form:mistral_v3", "llama2", _plain("", "</s>"),
        architecture="mistral",
    ),
    TextFamily(
        "mistral_nemo", "Mistral Nemo", "package", "mistral_nemo", _plain("", "</s>"),
        architecture="mistral",
    ),
    TextFamily(
        "mistral_v7", "Mistral Small 3 (v7)", "form:mistral_v7", "mistral_nemo",
        _plain("", "</s>"), architecture="mistral",
    ),
    TextFamily(
        "gemma2", "Gemma, Gemma 2", "trl:gemma", "gemma3",
        {**_plain("", "<end_of_turn>\n"), "system": NO_SYSTEM}, architecture="gemma2",
    ),
    TextFamily(
        "gemma3", "Gemma 3", "package", "gemma3", _plain("", "<end_of_turn>\n"),
        architecture="gemma3_text",
    ),
    TextFamily(
        "phi3", "Phi-3", "trl:phi3", PHI3,
        _plain("", "<|end|>\n<|endoftext|>", "<|end|>\n"), architecture="phi3",
    ),
    TextFamily(
        "phi3_5", "Phi-3.5", "trl:phi3_5", PHI3,
        _plain("", "<|end|>\n<|endoftext|>", "<|end|>\n"), architecture="phi3",
    ),
    TextFamily(
        "phi4", "Phi-4", "form:phi4", SmallTokenizer((*CHATML, "<|im_sep|>"), "", IM),
        _plain("", IM), architecture="phi3",
    ),
    TextFamily(
        "deepseek_r1_distill", "DeepSeek-R1 distills", "trl:deepseek_r1_distill", "deepseek_v3",
        DEEPSEEK, architecture="qwen2", note=KEPT,
    ),
    TextFamily(
        "deepseek_v3", "DeepSeek-V3", "package", "deepseek_v3", _plain("", R1_END),
        architecture="deepseek_v3",
    ),
    TextFamily(
        "smollm2", "SmolLM2", "form:smollm2", SmallTokenizer(CHATML, "<|im_start|>", IM),
        _plain("", IM),
    ),
    TextFamily(
        "smollm3", "SmolLM3", "form:smollm3", SmallTokenizer(CHATML, "", IM),
        SMOLLM3, architecture="smollm3", note=f"{KEPT} Its own generation marks have the header.",
    ),
    TextFamily(
        "glm4", "GLM-4", "form:glm4", SmallTokenizer(GLM, "", "<|endoftext|>"),
        _plain("\n", "", "<|user|>"), architecture="glm4",
        note="The next speaker's token ends a turn; the last one has no end to learn.",
    ),
    TextFamily(
        "glm4_moe", "GLM-4.5", "trl:glm4moe",
        SmallTokenizer((*GLM, "<|observation|>", "<think>", "</think>"), "", "<|endoftext|>"),
        GLM4_MOE, dropped=1, architecture="glm4_moe", note=LEFT_OUT,
    ),
    TextFamily(
        "yi", "Yi-1.5", "form:yi", "yi", _plain("", IM),
        note="The package has the base model's tokenizer; the tests add the chat tokens.",
    ),
    TextFamily(
        "internlm2", "InternLM2", "package", "internlm2", _plain("", IM),
        note="The published model brings code of its own: an administrator has to allow it.",
    ),
    TextFamily(
        "gpt_oss", "GPT-OSS", "trl:gptoss", "gptoss",
        GPT_OSS, dropped=1, architecture="gpt_oss", note=LEFT_OUT,
    ),
)  # fmt: skip
BY_NAME = {family.name: family for family in FAMILIES}


@dataclass(frozen=True)
class SwiftFamily:
    """A family as ms-swift 4.6 knows it, and what it learns of every answer: `before` it, and
    the end after it, of the last answer and of one before."""

    model_type: str
    template: str
    before: str
    end: str
    end_before: str | None = None

    @property
    def learnt(self) -> dict[str, tuple[str, ...]]:
        """What is learnt, by kind of row."""
        return _plain(self.before, self.end, self.end_before)


SWIFT: Mapping[str, SwiftFamily] = {
    "qwen3_first": SwiftFamily("qwen3", "qwen3", EMPTY, f"{IM}\n"),
    "qwen3": SwiftFamily("qwen3", "qwen3", EMPTY, f"{IM}\n"),
    "qwen3_instruct_2507": SwiftFamily("qwen3", "qwen3_nothinking", "", f"{IM}\n"),
    "qwen3_thinking_2507": SwiftFamily("qwen3", "qwen3_thinking", "", f"{IM}\n"),
    "qwen2_5": SwiftFamily("qwen2", "qwen2_5", "", f"{IM}\n"),
    "llama2": SwiftFamily("llama", "llama", "", "</s>"),
    "llama3": SwiftFamily("llama", "llama3", "", "<|eot_id|>"),
    "llama3_early": SwiftFamily("llama", "llama3", "", "<|eot_id|>"),
    "llama3_1": SwiftFamily("llama", "llama3_2", "", "<|eot_id|>"),
    "llama3_2": SwiftFamily("llama", "llama3_2", "", "<|eot_id|>"),
    "mistral_v1": SwiftFamily("mistral", "llama", "", "</s>"),
    "mistral_v3": SwiftFamily("mistral", "llama", "", "</s>"),
    "mistral_nemo": SwiftFamily("mistral_nemo", "mistral_nemo", "", "</s>"),
    "mistral_v7": SwiftFamily("mistral_2501", "mistral_2501", "", "</s>"),
    "gemma2": SwiftFamily("gemma2", "gemma", "", "<end_of_turn>"),
    "gemma3": SwiftFamily("gemma3_text", "gemma3_text", "", "<end_of_turn>"),
    "phi3": SwiftFamily("phi3", "phi3", "", "<|end|>"),
    "phi3_5": SwiftFamily("phi3", "phi3", "", "<|end|>"),
    "phi4": SwiftFamily("phi4", "phi4", "", IM),
    "deepseek_r1_distill": SwiftFamily("qwen2", "deepseek_r1", "", R1_END),
    "deepseek_v3": SwiftFamily("deepseek_v3", "deepseek_v2_5", "", R1_END),
    "glm4": SwiftFamily("glm4", "glm4", "", "<|user|>"),
    "glm4_moe": SwiftFamily("glm4_moe", "glm4_5", "<think></think>\n", "<|user|>"),
    "yi": SwiftFamily("yi", "chatml", "", f"{IM}\n"),
    "gpt_oss": SwiftFamily("gpt_oss", "gpt_oss", "<|channel|>final<|message|>", "<|return|>", ""),
}
NOT_IN_SWIFT: Mapping[str, str] = {
    "smollm2": "ms-swift 4.6 has no template for it",
    "smollm3": "ms-swift 4.6 has no template for it",
    "internlm2": "needs the model's own code, which an administrator has to allow",
}
