"""The encoders that can stand under a box head. Their files come from whoever holds a licence; nothing is fetched.

Each expects one folder: a safetensors file, a JSON file, and the record that `python -m rag_service.training record` writes.
The whole film is squeezed to the square that the encoder reads, where its own program would crop: edges are kept.
"""

from __future__ import annotations

from typing import Final

from rag_service.models.encoders.record import EncoderRecord

OWN: Final = "box-latent"
"""Our own film network, frozen; it has a film model's record, so its folder needs no other."""

_RECORDS: Final = (
    EncoderRecord(
        name="rad-dino",
        version="1",
        loader="dinov2",
        weights="model.safetensors",
        config="config.json",
        side=518,
        mean=(0.5307,) * 3,
        std=(0.2583,) * 3,
        width=768,
        terms="As published with the weights; research use.",
        source="microsoft/rad-dino (arXiv 2401.10815): Dinov2Model as transformers saves it",
    ),
    EncoderRecord(
        name="biomedclip",
        version="1",
        loader="open_clip",
        weights="open_clip_model.safetensors",
        config="open_clip_config.json",
        side=224,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        width=512,
        terms="MIT; intended for research use.",
        source="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224 (arXiv 2303.00915): vision tower, as open_clip saves it",
    ),
    EncoderRecord(
        name="xrv-densenet121",
        version="1",
        loader="torchxrayvision",
        weights="model.safetensors",
        config="config.json",
        side=224,
        mean=(0.5,),
        std=(1 / 2048,),  # grey in [-1024, 1024]
        width=1024,
        terms="Apache-2.0 code; weights trained on public collections, each with its own terms.",
        source="torchxrayvision DenseNet (arXiv 2111.00595): its state dict; the JSON holds the constructor's arguments, {} for "
        "densenet121-res224-*",
    ),
    EncoderRecord(
        name="medsam2",
        version="1",
        loader="sam2",
        weights="model.safetensors",
        config="config.json",
        side=512,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        width=256,
        terms="As published with the weights; research use.",
        source="MedSAM2 (arXiv 2504.03600): the image encoder of SAM 2 as transformers' Sam2Model saves it",
    ),
)

CATALOGUE: Final = {r.name: r for r in _RECORDS}
NAMES: Final = (*CATALOGUE, OWN)
