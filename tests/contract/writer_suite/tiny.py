"""Tiny models of the classes of the real ones, taught one answer by heart, saved to a folder as their publishers lay it out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from rag_service import torchvision_ops
from rag_service.writers.local_model import LocalModel, Messages

torchvision_ops.declare()

SIDE, PATCH = 28, 14
MAIRA_MARKS = ("<image>", "<obj>", "</obj>", "<box>", "</box>", *(f"<{a}{n}>" for a in "xy" for n in range(100)))
MAIRA_CHAT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}ASSISTANT:"
)
GEMMA_MARKS = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
GEMMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<start_of_image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "<start_of_turn>model\n"
)


def maira2(folder: Path, answer: str, asked: Messages) -> None:
    """MAIRA-2's classes, its tensors under the names of its publication."""
    from transformers import BitImageProcessor, Dinov2Config, LlamaConfig, LlavaConfig, LlavaProcessor

    from rag_service.writers.maira2_network import Maira2

    tokenizer = _tokenizer(answer, MAIRA_MARKS, MAIRA_CHAT)
    vision = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=PATCH, mlp_ratio=2,
        reshape_hidden_states=False, out_features=["stage2"],
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=image, projector_n_layers=4, vision_feature_layer=-1
    )
    torch.manual_seed(0)
    model: Any = Maira2(config)
    images = BitImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5307] * 3,
        image_std=[0.2583] * 3,
    )
    processor: Any = LlavaProcessor(
        images, tokenizer, PATCH, "default", chat_template=MAIRA_CHAT, num_additional_image_tokens=1
    )
    _teach(model, processor, asked, answer)
    for part in (model, images, tokenizer):
        part.save_pretrained(folder)
    _as_published(folder)


def gemma3(folder: Path, answer: str, asked: Messages) -> None:
    """MedGemma's classes."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    tokenizer = _tokenizer(answer, tuple(GEMMA_MARKS.values()), GEMMA_CHAT, GEMMA_MARKS)
    text = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, sliding_window=512, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=SIDE, patch_size=7
    )
    ids = {
        f"{k.removesuffix('_token')}_token_index": tokenizer.convert_tokens_to_ids(v) for k, v in GEMMA_MARKS.items()
    }
    torch.manual_seed(0)
    model: Any = Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, **ids)
    )
    images = Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE})
    processor: Any = Gemma3Processor(images, tokenizer, chat_template=GEMMA_CHAT, image_seq_length=4)
    _teach(model, processor, asked, answer)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _tokenizer(answer: str, marks: Sequence[str], chat: str, named: dict[str, str] | None = None) -> Any:
    """The words of the answer and the marks; every other word is unknown to it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    words.decoder = decoders.Metaspace(prepend_scheme="never")
    words.add_tokens(list(marks))
    plain = answer
    for mark in marks:
        plain = plain.replace(mark, "\0")
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for piece in plain.split("\0"):
        for word, _ in words.pre_tokenizer.pre_tokenize_str(piece):
            vocabulary.setdefault(word, len(vocabulary))
    words.model = models.WordLevel(vocabulary, unk_token="<unk>")
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=chat,
        extra_special_tokens=named or {},
    )  # fmt: skip


def _teach(model: Any, processor: Any, asked: Messages, answer: str) -> None:
    """Until it answers that, to whatever film."""
    question = processor.apply_chat_template(
        asked, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    target = processor.tokenizer(answer, add_special_tokens=False, return_tensors="pt").input_ids
    target = torch.cat([target, torch.tensor([[2]])], dim=1)
    whole = dict(question)
    length = whole["input_ids"].shape[1]
    whole["input_ids"] = torch.cat([whole["input_ids"], target], dim=1)
    whole["attention_mask"] = torch.ones_like(whole["input_ids"])
    if "token_type_ids" in whole:
        whole["token_type_ids"] = torch.cat([whole["token_type_ids"], torch.zeros_like(target)], dim=1)
    labels = whole["input_ids"].clone()
    labels[:, :length] = -100
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    model.train()
    for _ in range(80):
        loss = model(**whole, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert LocalModel(model, processor, 2 * target.shape[1]).answer(asked) == answer


def _as_published(folder: Path) -> None:
    old = {"model.language_model.": "language_model.model.", "model.": "", "lm_head.": "language_model.lm_head."}
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        start = next(s for s in old if name.startswith(s))
        tensors[old[start] + name.removeprefix(start)] = tensor
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    named = {"model_type": "maira2", "auto_map": {"AutoConfig": "configuration_maira2.Maira2Config"}}
    (folder / "config.json").write_text(json.dumps({**config, **named}))
    (folder / "configuration_maira2.py").write_text("raise SystemExit('code of a folder was run')\n")
