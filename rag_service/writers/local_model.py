"""A vision-language model in memory: messages with words and pictures in, its words out, always the same for the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from rag_service.errors import BadWeights
from rag_service.writers.record import WriterRecord

Messages = Sequence[Mapping[str, Any]]
"""Turns of a conversation: a role, and the pieces of its content: a type, "text" or "image", and that under the type's name."""
LOCAL: Final[Mapping[str, Any]] = {"local_files_only": True, "trust_remote_code": False}
"""How every file of a folder is loaded: nothing is fetched, and no code of the folder is run."""


class LocalModel:
    """A model of transformers with its processor, asked greedily, one question at a time."""

    def __init__(self, model: Any, processor: Any, most_tokens: int) -> None:
        from transformers import GenerationConfig

        self._model, self._processor = model.eval(), processor
        ends = model.generation_config.eos_token_id
        self._greedy = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=most_tokens, do_sample=False, eos_token_id=ends, pad_token_id=0
        )  # one question at a time needs no padding, so its token is any

    @torch.inference_mode()
    def answer(self, messages: Messages) -> str:
        """What the model writes next, at most `most_tokens` long."""
        asked = self._processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self._model.device, self._model.dtype)
        written = self._model.generate(**asked, generation_config=self._greedy)
        answer: str = self._processor.decode(written[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
        return answer


def loaded(record: WriterRecord, load: Callable[[], tuple[Any, Mapping[str, Any]]]) -> Any:
    """The model that `load` gives with transformers' loading report, on the device there is.

    BadWeights when a tensor is missing, surplus or of another shape, or the files do not fit the class.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        model, report = load()
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RuntimeError,
        SafetensorError,
        StrictDataclassError,
    ) as error:
        raise BadWeights(f"the files of {record.id} do not fit its class; {record.source}") from error
    if unfit := sorted({*report["missing_keys"], *report["unexpected_keys"]}):
        raise BadWeights(f"{len(unfit)} tensors of {record.id} are missing or surplus, {unfit[0]} the first")
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def dtype() -> Any:
    """Half precision on a GPU; as stored on a CPU."""
    return torch.bfloat16 if torch.cuda.is_available() else "auto"


def from_folder(cls: Any, folder: Path, **more: Any) -> tuple[Any, Mapping[str, Any]]:
    """A model of a class of transformers, filled from the folder's safetensors, with the loading report."""
    found: tuple[Any, Mapping[str, Any]] = cls.from_pretrained(
        folder, use_safetensors=True, output_loading_info=True, dtype=dtype(), **LOCAL, **more
    )
    return found
