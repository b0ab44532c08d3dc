"""Declares torchvision's custom operators where its compiled half does not match this torch.

The only published torchvision wheel is built for CUDA; beside the CPU build of torch its C++ operators are
absent and `import torchvision` fails while registering shape functions for them. Declaring the schemas is
enough for everything this project uses (transforms, timm, open_clip); `nms` and `roi_align` stay unusable.
"""

from __future__ import annotations

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[object] = []


def declare() -> None:
    """Declare the missing operators once; call before anything imports torchvision. Does nothing when they exist."""
    import torch

    if _declared or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)  # a Library undeclares its operators when collected
