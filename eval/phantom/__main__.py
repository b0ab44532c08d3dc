"""Write a phantom film: python -m eval.phantom OUT.png [--case NAME] [--bits 8|16] [--truth OUT.json] [--seed N]."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.phantom.cases import CASES
from eval.phantom.files import png
from eval.phantom.thorax import Phantom, render
from rag_service.imaging.film import Box


def main(arguments: list[str] | None = None) -> None:
    """Render one named case to a PNG and, when asked, its truth to JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.phantom", description="A synthetic chest film with known truth."
    )
    parser.add_argument("out", type=Path, help="PNG file to write")
    parser.add_argument("--case", choices=sorted(CASES), default="demo")
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8)
    parser.add_argument("--truth", type=Path, help="JSON file to write boxes and the cardiothoracic ratio to")
    parser.add_argument("--seed", type=int, default=0, help="seed of the exposure (noise and the finding's texture)")
    asked = parser.parse_args(arguments)
    case = CASES[asked.case]
    phantom = render(case.anatomy, case.pathologies, case.devices, seed=asked.seed)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_bytes(png(phantom, asked.bits))
    if asked.truth is not None:
        asked.truth.write_text(json.dumps(truth(phantom), indent=2) + "\n", encoding="utf-8")


def truth(phantom: Phantom) -> dict[str, Any]:
    """Everything true about the film, ready for JSON; boxes are fractions of the film."""

    def corners(box: Box) -> dict[str, float]:
        return {name: round(value, 5) for name, value in asdict(box).items() if name != "weight"}

    findings = [
        {"label": t.label, "laterality": t.laterality and t.laterality.value, "box": corners(t.box)}
        for t in phantom.findings
    ]
    anatomy = {name: corners(getattr(phantom, name)) for name in ("right_lung", "left_lung", "heart")}
    return {"findings": findings, "cardiothoracic_ratio": round(phantom.cardiothoracic_ratio, 4), "anatomy": anatomy}


if __name__ == "__main__":
    main()
