"""A site's own calibration: findings refitted on films it labelled itself, laid over the shipped calibration of one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from knowledge_base.findings import FINDINGS
from rag_service import sealed
from rag_service.calibration import Calibration, FindingCalibration
from rag_service.errors import BadWeights
from rag_service.operating_points import RocPoint

FILE: Final = "site-calibration.json"


@dataclass(frozen=True)
class SiteCalibration:
    """What a site refitted, on how many cases, and what it left as shipped.

    `scores` is the SHA-256 of the file of scores, `target` what the operating points were chosen for. `kept` names the findings
    that stay as shipped, each with the reason; `roc` holds the operating points that the site may choose from.
    """

    model: str
    cases: int
    scores: str
    target: str
    findings: Mapping[str, FindingCalibration]
    kept: Mapping[str, str]
    roc: Mapping[str, tuple[RocPoint, ...]]

    def over(self, shipped: Calibration) -> Calibration:
        """The shipped calibration with the refitted findings in place. Whether a finding is spoken of stays as shipped."""
        refitted = {
            name: replace(entry, reliability=shipped.findings[name].reliability)
            for name, entry in self.findings.items()
        }
        return replace(shipped, findings={**shipped.findings, **refitted})

    def save(self, path: Path) -> None:
        """Write the file that RAG_SITE_CALIBRATION names, with its digest."""
        sealed.write(
            path,
            {
                "model": self.model,
                "cases": self.cases,
                "scores": self.scores,
                "target": self.target,
                "findings": {name: entry.to_json() for name, entry in self.findings.items()},
                "kept": dict(self.kept),
                "roc": {name: [asdict(p) for p in points] for name, points in self.roc.items()},
            },
        )


def load_site(path: Path, model: str) -> SiteCalibration:
    """The site calibration at `path`. BadWeights when it is absent, altered, malformed or of another model."""
    if not path.is_file():
        raise BadWeights(f"{path.name}, which RAG_SITE_CALIBRATION names, is absent")
    raw = sealed.read(path)
    try:
        findings = {name: FindingCalibration.from_json(entry) for name, entry in raw["findings"].items()}
        if not {*findings, *raw["kept"], *raw["roc"]} <= set(FINDINGS):
            raise ValueError("a site calibration names findings that there are not")
        roc = {name: tuple(RocPoint(**p) for p in points) for name, points in raw["roc"].items()}
        site = SiteCalibration(**{**raw, "findings": findings, "roc": roc})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadWeights(f"{path.name} is malformed; write it anew with `python -m eval recalibrate`") from error
    if site.model != model:
        raise BadWeights(f"{path.name} belongs to {site.model}, the model is {model}; run `python -m eval recalibrate`")
    return site
