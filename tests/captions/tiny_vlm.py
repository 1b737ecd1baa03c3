"""Vision-language models of the real architectures at a size that a laptop core runs in a moment.

Each maker writes a folder as a user would have it: safetensors, processor, tokenizer, chat
template. The weights are random (a fixed seed), so the words mean nothing; all else is real.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CORPUS = [
    '{"short": "A plain red picture.", "medium": "A plain green picture fills the frame.",'
    ' "long": "A plain blue picture fills the whole frame and nothing in it moves.",'
    ' "events": [], "camera": "static"}',
    "Describe the shot over time. A plain yellow picture. seconds first then at the end",
    "The pictures above are frames of one uninterrupted shot of 2.0 seconds. User: Assistant: ",
    "0 1 2 3 4 5 6 7 8 9 a dog runs a person walks the camera moves left right up down",
]
SMOL_TOKENS = [
    *("<|im_start|>", "<end_of_utterance>", "<pad>", "<image>", "<video>"),
    "<fake_token_around_image>",
    "<global-img>",
    *(f"<row_{r}_col_{c}>" for r in range(1, 3) for c in range(1, 3)),
]
SMOL_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}: "
    "{% for line in message['content'] %}"
    "{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}<image>{% elif line['type'] == 'video' %}<video>{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
QWEN_TOKENS = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|image_pad|>", "<|video_pad|>"),
    "<|vision_start|>",
    "<|vision_end|>",
]
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for line in message['content'] %}"
    "{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif line['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}


def tiny_tokenizer(
    special: list[str], *, eos: str, pad: str, template: str, corpus: list[str] | None = None
) -> Any:  # noqa: ANN401
    """A byte-level BPE tokenizer of about 500 tokens: any text comes back as it was."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )  # pyright: ignore[reportCallIssue]
    tokenizer.train_from_iterator([*CORPUS, *(corpus or ())], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=eos,
        pad_token=pad,
        additional_special_tokens=[t for t in special if t not in (eos, pad)],
    )
    fast.chat_template = template
    return fast


def make_tiny_smolvlm(folder: Path, seed: int = 0, corpus: list[str] | None = None) -> Path:
    """SmolVLM2 (Idefics3's connector, SigLIP-like eyes, Llama): 64-pixel frames, 4 tokens each."""
    import torch
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration
    from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor
    from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    side, patch, scale = 64, 16, 2
    tokenizer = tiny_tokenizer(
        SMOL_TOKENS,
        eos="<end_of_utterance>",
        pad="<pad>",
        template=SMOL_TEMPLATE,
        corpus=corpus,
    )
    sizes: dict[str, Any] = {
        "size": {"longest_edge": side},
        "max_image_size": {"longest_edge": side},
    }
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**sizes, do_image_splitting=False),
        tokenizer,
        SmolVLMVideoProcessor(**sizes, num_frames=8, fps=1),
        image_seq_len=(side // patch // scale) ** 2,
        chat_template=SMOL_TEMPLATE,
    )
    config = SmolVLMConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=scale,
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": side,
            "patch_size": patch,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "max_position_embeddings": 4096,
            "bos_token_id": tokenizer.convert_tokens_to_ids("<|im_start|>"),
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **HEADS,
        },
    )
    torch.manual_seed(seed)
    return _save(SmolVLMForConditionalGeneration(config), processor, tokenizer, folder)


def make_tiny_qwen_vl(folder: Path, seed: int = 0) -> Path:
    """Qwen2.5-VL: windowed attention over patches of 14 pixels, M-RoPE, two frames per step."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    tokenizer = tiny_tokenizer(
        QWEN_TOKENS, eos="<|im_end|>", pad="<|endoftext|>", template=QWEN_TEMPLATE
    )
    bounds: dict[str, Any] = {"size": {"shortest_edge": 28 * 28, "longest_edge": 8 * 56 * 56}}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**bounds),
        tokenizer,
        Qwen2VLVideoProcessor(**bounds),
        chat_template=QWEN_TEMPLATE,
    )
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
            "bos_token_id": tokenizer.convert_tokens_to_ids("<|im_start|>"),
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **HEADS,
        },
        **_ids(tokenizer),
    )
    torch.manual_seed(seed)
    return _save(Qwen2_5_VLForConditionalGeneration(config), processor, tokenizer, folder)


def make_tiny_qwen3_vl(folder: Path, seed: int = 0) -> Path:
    """Qwen3-VL: times of the frames as text, deep-stack features."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    tokenizer = tiny_tokenizer(
        QWEN_TOKENS, eos="<|im_end|>", pad="<|endoftext|>", template=QWEN_TEMPLATE
    )
    bounds: dict[str, Any] = {"size": {"shortest_edge": 32 * 32, "longest_edge": 8 * 64 * 64}}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**bounds, patch_size=16),
        tokenizer,
        Qwen3VLVideoProcessor(**bounds, cap_pixels_per_frame=False),
        chat_template=QWEN_TEMPLATE,
    )
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "head_dim": 16,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **HEADS,
        },
        **_ids(tokenizer),
    )
    torch.manual_seed(seed)
    return _save(Qwen3VLForConditionalGeneration(config), processor, tokenizer, folder)


def make_tiny_llm(folder: Path, seed: int = 0) -> Path:
    """A Llama that knows text alone."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(
        QWEN_TOKENS, eos="<|im_end|>", pad="<|endoftext|>", template=QWEN_TEMPLATE
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **HEADS,
    )
    torch.manual_seed(seed)
    return _save(LlamaForCausalLM(config), tokenizer, tokenizer, folder)


def _ids(tokenizer: Any) -> dict[str, Any]:  # noqa: ANN401
    """The ids of Qwen's placeholders."""
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    keys = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return {
        key: tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        for key, name in zip(keys, names, strict=True)
    }


def _save(model: Any, processor: Any, tokenizer: Any, folder: Path) -> Path:  # noqa: ANN401
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
