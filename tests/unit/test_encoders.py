"""Encoders as records: the classes of the real ones, tiny and random, saved to a folder and loaded from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rag_service import torchvision_ops
from rag_service.errors import BadWeights
from rag_service.models.catalogue import ModelRecord
from rag_service.models.encoder import FilmEncoder
from rag_service.models.encoders.catalogue import CATALOGUE, NAMES, OWN
from rag_service.models.encoders.load import Extractor, load_extractor, to_pixels
from rag_service.models.encoders.record import SIDECAR, EncoderRecord, read_record, write_record
from rag_service.models.network import FilmNetwork
from rag_service.training.export import export

torchvision_ops.declare()


@dataclass(frozen=True)
class Tiny:
    """A tiny encoder in its folder: the record, and the reference model's own pooled features of normalised pixels."""

    folder: Path
    record: EncoderRecord
    reference: Callable[[Tensor], Tensor]
    grid: tuple[int, int, int]


def rad_dino(folder: Path) -> Tiny:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=42, patch_size=14, mlp_ratio=2
    )
    model: Any = Dinov2Model(config).eval()
    model.save_pretrained(folder)
    record = replace(CATALOGUE["rad-dino"], side=42, width=16)
    return Tiny(folder, record, lambda pixels: model(pixel_values=pixels).pooler_output, (16, 3, 3))


def biomedclip(folder: Path) -> Tiny:
    import open_clip

    vision = {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "mlp_ratio": 2.0}
    text = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CustomTextCLIP(12, vision, text).eval()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    # A text tower that only a hub could describe: nothing may ask for it.
    named = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": {"hf_model_name": "microsoft/not-here"}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": named}))
    record = replace(CATALOGUE["biomedclip"], side=32, width=12)
    return Tiny(folder, record, model.encode_image, (16, 4, 4))


def biomedclip_timm(folder: Path) -> Tiny:
    """As published, the tower is a timm transformer that pools its class token."""
    import open_clip

    vision = {
        "timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear", "image_size": 160,
    }  # fmt: skip
    text = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CustomTextCLIP(12, vision, text).eval()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    asks = {**vision, "timm_model_pretrained": True}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {"embed_dim": 12, "vision_cfg": asks, "text_cfg": text}})
    )
    record = replace(CATALOGUE["biomedclip"], side=160, width=12)
    return Tiny(folder, record, model.encode_image, (64, 10, 10))


def xrv(folder: Path) -> Tiny:
    from torchxrayvision.models import DenseNet

    shape = {"growth_rate": 4, "block_config": [1, 1, 1, 1], "num_init_features": 8, "bn_size": 2}
    model = DenseNet(**shape)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None  # the running statistics become those of the noise
    model.train()(torch.empty(8, 1, 64, 64).uniform_(-1024, 1024))
    model.eval()
    # The published weights carry the operating points of their own classes.
    save_file({**model.state_dict(), "op_threshs": torch.full((18,), 0.5)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(shape))
    record = replace(CATALOGUE["xrv-densenet121"], side=64, width=model.classifier.in_features)
    return Tiny(folder, record, model.features2, (record.width, 2, 2))


def medsam2(folder: Path) -> Tiny:
    from transformers import Sam2Config, Sam2Model

    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1, "image_size": [64, 64],
        "blocks_per_stage": [1, 1, 1, 1], "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 2, 2, 2], "global_attention_blocks": [],
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 8,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 8, "image_size": 64, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": 8,
            "num_attention_heads": 2,
            "mlp_dim": 16,
            "iou_head_hidden_dim": 8,
        },
    )
    model: Any = Sam2Model(config).eval()
    model.save_pretrained(folder)
    record = replace(CATALOGUE["medsam2"], side=64, width=8)
    return Tiny(folder, record, lambda p: model.vision_encoder(p).fpn_hidden_states[-1].flatten(2).mean(2), (8, 4, 4))


MAKERS = (rad_dino, biomedclip, biomedclip_timm, xrv, medsam2)


@pytest.fixture(params=MAKERS, ids=lambda m: m.__name__)
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> Tiny:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        made: Tiny = request.param(tmp_path)
    return replace(made, record=write_record(made.record, made.folder))


def loaded(tiny: Tiny) -> Extractor:
    return load_extractor(tiny.record.name, tiny.folder)


def test_features_are_the_reference_models_own(tiny: Tiny, stored: NDArray[np.uint8]) -> None:
    extractor = loaded(tiny)
    found = extractor.features(stored[:3])
    with torch.no_grad():
        expected = tiny.reference(to_pixels(stored[:3], tiny.record))
    assert torch.allclose(found.pooled, expected, atol=1e-5)
    assert (found.pooled.dtype, tuple(found.pooled.shape)) == (torch.float32, (3, tiny.record.width))
    assert tuple(found.grid.shape[1:]) == tiny.grid
    assert extractor.record == tiny.record
    assert not torch.allclose(found.pooled[0], found.pooled[1], atol=1e-6)


def test_a_film_is_seen_the_same_alone_and_in_a_batch_and_in_either_type(tiny: Tiny, stored: NDArray[np.uint8]) -> None:
    extractor = loaded(tiny)
    together = extractor.features(stored[:3])
    again = extractor.features(stored[:3])
    assert torch.equal(together.pooled, again.pooled)
    alone = extractor.features(stored[1:2])
    assert torch.allclose(alone.pooled[0], together.pooled[1], atol=1e-4)
    grey = extractor.features((stored[1:2] / np.float32(255)).astype(np.float32))
    assert torch.allclose(grey.pooled, alone.pooled, atol=1e-4)


def test_an_altered_weight_or_configuration_is_refused(tiny: Tiny) -> None:
    for file, expected in ((tiny.record.weights, tiny.record.sha256), (tiny.record.config, tiny.record.config_sha256)):
        path = tiny.folder / file
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(
            BadWeights, match=rf"{file} of {tiny.record.name}: expected sha256 {expected}, found [0-9a-f]"
        ):
            loaded(tiny)
        path.unlink()
        with pytest.raises(BadWeights, match=f"expected sha256 {expected}, found no file"):
            loaded(tiny)
        path.write_bytes(whole)
    loaded(tiny)


def test_a_missing_tensor_is_never_made_up(tiny: Tiny) -> None:
    path = tiny.folder / tiny.record.weights
    state = load_file(path)
    parts = ("visual.", "vision_encoder.", "encoder.layer.", "features.")
    known = next(k for k in state if k.startswith(parts) and k.endswith("weight"))
    save_file({k: v for k, v in state.items() if k != known}, path)
    record = write_record(replace(tiny.record, sha256=None), tiny.folder)
    with pytest.raises(BadWeights, match=f"does not fit its configuration .expected sha256 {record.sha256}"):
        loaded(tiny)


def test_weights_that_are_not_finite_are_named(tiny: Tiny, stored: NDArray[np.uint8]) -> None:
    path = tiny.folder / tiny.record.weights
    save_file(
        {k: torch.full_like(v, torch.nan) if v.is_floating_point() else v for k, v in load_file(path).items()}, path
    )
    record = write_record(replace(tiny.record, sha256=None), tiny.folder)
    with pytest.raises(BadWeights, match=rf"{record.id} produced numbers that are not finite"):
        loaded(tiny).features(stored[:1])


@pytest.fixture
def dino(tmp_path: Path) -> Tiny:
    made = rad_dino(tmp_path)
    return replace(made, record=write_record(made.record, made.folder))


def test_features_of_another_width_are_refused(dino: Tiny, stored: NDArray[np.uint8]) -> None:
    write_record(replace(dino.record, width=8), dino.folder)
    with pytest.raises(BadWeights, match="gives features of width 16, recorded is 8"):
        loaded(dino).features(stored[:1])


def test_a_pickle_is_refused_whatever_its_name(dino: Tiny) -> None:
    (dino.folder / dino.record.weights).write_bytes(b"\x80\x04pickled")
    write_record(replace(dino.record, sha256=None), dino.folder)
    with pytest.raises(BadWeights, match="does not fit its configuration"):
        loaded(dino)


@pytest.mark.parametrize("text", ["[]", "{", '{"hidden_size": "wide"}'])
def test_a_configuration_that_is_none_is_refused(text: str, dino: Tiny) -> None:
    (dino.folder / "config.json").write_text(text)
    write_record(replace(dino.record, config_sha256=None), dino.folder)
    with pytest.raises(BadWeights, match="rad-dino"):
        loaded(dino)


def test_a_loader_of_another_version_is_refused(dino: Tiny) -> None:
    write_record(replace(dino.record, loader="later"), dino.folder)
    with pytest.raises(BadWeights, match="names the loader later"):
        loaded(dino)


def test_recording_states_both_digests(dino: Tiny) -> None:
    content = (dino.folder / "model.safetensors").read_bytes()
    assert dino.record.sha256 == hashlib.sha256(content).hexdigest()
    assert dino.record.id == f"rad-dino@1-{dino.record.sha256[:8]}"
    assert read_record("rad-dino", dino.folder) == dino.record
    with pytest.raises(BadWeights, match=rf"model\.safetensors of rad-dino: expected sha256 {'0' * 64}, found"):
        write_record(replace(dino.record, sha256="0" * 64), dino.folder)
    (dino.folder / "config.json").unlink()
    with pytest.raises(BadWeights, match=r"config\.json of rad-dino: expected sha256 .*, found no file"):
        write_record(dino.record, dino.folder)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"mean": [1], "std": [1], "name": 3}'])
def test_a_folder_without_a_record_says_what_to_run(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / SIDECAR).write_text(text)
    with pytest.raises(BadWeights, match="training record --encoder medsam2"):
        load_extractor("medsam2", tmp_path)


def test_another_encoders_folder_is_refused(dino: Tiny) -> None:
    with pytest.raises(BadWeights, match="the folder holds rad-dino, not medsam2"):
        load_extractor("medsam2", dino.folder)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "model.bin"}, {"weights": "../model.safetensors"}, {"config": "config.py"}, {"side": 0}, {"width": 0},
        {"mean": (0.5, 0.5), "std": (1.0, 1.0)}, {"std": (0.0,) * 3}, {"mean": (0.5,)},
    ],
)  # fmt: skip
def test_a_record_refuses_what_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"file|positive|mean"):
        replace(CATALOGUE["rad-dino"], **change)


def test_the_catalogue_by_name() -> None:
    assert NAMES == ("rad-dino", "biomedclip", "xrv-densenet121", "medsam2", "box-latent")
    assert {(r.name, r.side, r.width) for r in CATALOGUE.values()} == {
        ("rad-dino", 518, 768), ("biomedclip", 224, 512), ("xrv-densenet121", 224, 1024), ("medsam2", 512, 256),
    }  # fmt: skip
    assert CATALOGUE["rad-dino"].id == "rad-dino@1-unrecorded"


def test_grey_levels_reach_each_encoder_as_it_expects() -> None:
    films = np.stack([np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)])
    xray = to_pixels(films, replace(CATALOGUE["xrv-densenet121"], side=4))
    assert (tuple(xray.shape), xray.unique().tolist()) == ((2, 1, 4, 4), [-1024.0, 1024.0])
    clip = to_pixels(films, replace(CATALOGUE["biomedclip"], side=4))
    assert clip[1, :, 0, 0].tolist() == pytest.approx([1.9303, 2.0749, 2.1459], abs=1e-4)


def test_our_own_trunk_has_the_same_interface(
    tmp_path: Path, make_network: Callable[[int], FilmNetwork], stored: NDArray[np.uint8]
) -> None:
    network = make_network(3)
    torch.save({"averaged": network.state_dict()}, tmp_path / "checkpoint.pt")
    made: ModelRecord = export(tmp_path / "checkpoint.pt", network.architecture, "1", tmp_path)
    extractor = load_extractor(OWN, tmp_path)
    assert extractor.record.sha256 == made.sha256
    readings = FilmEncoder(made, network).read_stored(stored[:2])
    found = extractor.features(stored[:2])
    assert np.allclose(found.pooled.numpy(), np.stack([r.pooled for r in readings]), atol=2e-2)
    assert extractor.record.width == found.pooled.shape[1] == readings[0].pooled.shape[0]
    assert tuple(found.grid.shape[2:]) == (2, 2)
