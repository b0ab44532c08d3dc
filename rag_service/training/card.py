"""Writes the model card from the run: record, data, calibration, and the figures that `python -m eval ... --json` printed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration
from rag_service.datasets.films import Split
from rag_service.models.catalogue import ModelRecord
from rag_service.training.corpus import SOURCES, Corpus
from rag_service.training.loop import Plan

CARD_FILE: Final = "MODEL_CARD.md"
_COMPANIONS: Final[Mapping[str, tuple[str, str]]] = {
    "region-queries.json": (
        "asks the film by words or by a box: presence, up to three boxes, attention",
        "reader boxes of NIH and RSNA, outlines of JSRT, Cohen and its anatomy and device objects (CC BY 4.0), labels and "
        "MeSH sides of Open-i; terms as above",
    ),
    "segmenter.json": (
        "outlines lungs and heart, for the cardiothoracic ratio and for masks",
        "see its record; terms there",
    ),
    "decoder.json": (
        "words one finding at a time from film, decision and retrieved sentences; what it proposes is verified",
        "sentences of Open-i reports and ROCOv2 captions, NIH reader boxes; terms as above, ROCOv2 CC BY-NC-SA",
    ),
    "indication.json": ("weighs known words of the indication", "Open-i indications"),
    "change.json": (
        "tells more of a finding from less on two films",
        "NIH follow-ups, Cohen's dated films with severity scores",
    ),
}
"""File -> what it is for, and the data. Their digests are in the files."""
_REGION_PARTS: Final = ("all", "original", "markers_blacked_out")


def write_card(
    folder: Path,
    record: ModelRecord,
    calibration: Calibration,
    corpus: Corpus,
    plan: Plan,
    figures: Sequence[Path],
    note: str,
) -> None:
    """Write MODEL_CARD.md beside the weights. `figures` are JSON files of eval runs, in the order to be shown."""
    lines = [
        *_head(record),
        *_data(corpus, calibration),
        *_training(plan, note),
        *_companions(folder),
        *_records(folder),
        *(line for path in figures for line in _figure(path.stem, json.loads(path.read_text("utf-8")))),
        *_operating_points(calibration),
        *_limits(),
    ]
    (folder / CARD_FILE).write_text("\n".join(lines) + "\n", "utf-8")


def _head(record: ModelRecord) -> Iterator[str]:
    yield f"# {record.id}"
    yield ""
    yield "**Research use only. Not a medical device. A clinician decides.**"
    yield ""
    yield f"- weights `{record.file}`, SHA-256 `{record.sha256}`"
    yield f"- {_structure(record.architecture)}, box of {record.architecture['axes']} axes"
    yield f"- preprocessing {record.preprocessing}"
    yield f"- terms: {record.terms}"
    yield ""


def _structure(architecture: Mapping[str, Any]) -> str:
    """Our own trunk and its input, or the encoder under a box head."""
    if "backbone" in architecture:
        return f"box head over {architecture['backbone']}"
    return f"trunk {architecture['trunk']}, {architecture['side']} px"


def _data(corpus: Corpus, calibration: Calibration) -> Iterator[str]:
    yield "## Data"
    yield ""
    yield "Films by source and split; a patient is in one split only (a fixed hash of source and patient)."
    yield ""
    yield "| source | " + " | ".join(Split) + " |"
    yield "|---|" + "---|" * len(Split)
    for index, source in enumerate(SOURCES):
        counts = [int(((corpus.source == index) & (corpus.split == s.value)).sum()) for s in Split]
        yield f"| {source} | " + " | ".join(map(str, counts)) + " |"
    yield ""
    yield f"Calibrated on {calibration.sample}. Open-i labels come from its hand-coded MeSH tags, NIH labels are text-mined with"
    yield "radiologists' opacity readings where there are any; a finding that a source does not label is masked."
    yield ""


def _companions(folder: Path) -> Iterator[str]:
    """The further models that the folder holds."""
    held = [(name, *what) for name, what in _COMPANIONS.items() if (folder / name).is_file()]
    if held:
        yield from (
            "## Further models",
            "",
            "| file | what it does | trained on, never on test patients |",
            "|---|---|---|",
        )
        yield from (f"| `{name}` | {what} | {data} |" for name, what, data in held)
        yield ""


def _records(folder: Path) -> Iterator[str]:
    """What lies beside the weights and says what it was fitted to."""
    fitted = {path.name: json.loads(path.read_text("utf-8")).get("sample") for path in sorted(folder.glob("*.json"))}
    if rows := [f"| `{name}` | {sample} |" for name, sample in fitted.items() if sample]:
        yield from ("## Fitted beside the weights", "", "| file | to |", "|---|---|", *rows, "")


def _training(plan: Plan, note: str) -> Iterator[str]:
    yield "## Training"
    yield ""
    stages = ", ".join(f"{share:.0%} of steps at {side} px" for share, side in plan.stages)
    yield f"Last leg: {plan.steps} steps of {plan.batch} films, seed {plan.seed}; {stages}. Never mirrored."
    if note:
        yield ""
        yield note
    yield ""


def _figure(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    yield f"## Measured: {name}"
    yield ""
    if "rows" in result:
        yield from _table_figures(result)
    elif "macro_auroc" in result:
        yield from _label_figures(result)
    elif "map" in result:
        yield from _retrieval_figures(result)
    else:
        yield from _plain_figures(result)
    yield ""


def _plain_figures(result: Mapping[str, Any]) -> Iterator[str]:
    """The figures that stand at the top of a result, with their intervals where it has them."""
    intervals = result.get("intervals", {})
    yield "| what | figure | 95 % |"
    yield "|---|---|---|"
    for name, value in result.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = intervals.get(name) or (None, None)
            shown = "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"
            yield f"| {name} | {value if isinstance(value, int) else _shown(value)} | {shown} |"


def _table_figures(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{result['n_films']} films of {result['n_studies']} test studies. Seeds of the box head {result['seeds']}, on one trunk:"
    yield "a seed changes the head's first weights, its samples and the order of films; the split stays. Published: MedSAM2-CXR."
    yield ""
    yield "| what | shipped model | 95 % | 5 seeds | published | target |"
    yield "|---|---|---|---|---|---|"
    for row in result["rows"]:
        interval = "" if row["interval"] is None else f"[{row['interval'][0]:.3f}, {row['interval'][1]:.3f}]"
        spread = "" if row["sd"] is None else f" ± {row['sd']:.3f}"
        seeds = "" if row["mean"] is None else f"{row['mean']:.3f}{spread}"
        verdict = {True: " met", False: " **missed**", None: ""}[row["met"]]
        target = "" if row["target"] is None else f"{row['target']:g}{verdict}"
        cells = (row["name"], _shown(row["ours"]), interval, seeds, _shown(row["published"]), target)
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "| the head without | macro-AUROC, mean of seeds | box less this, paired over studies | p |"
    yield "|---|---|---|---|"
    for name, found in result["variants"].items():
        yield f"| {name} | {_shown(found['mean'])} | {_paired(result['paired'].get(name))} |"
    if result["trunks"]:
        yield ""
        yield f"| {result['trunks']['signature']['steps']} steps of training | macro-AUROC | ms a film | pretrained less this | p |"
        yield "|---|---|---|---|---|"
        for name, found in result["trunks"]["variants"].items():
            line = f"| {name} | {_shown(found['macro_auroc'])} | {found['ms_per_film']:.1f}"
            yield f"{line} | {_paired(result['trunks']['paired'].get(name))} |"


def _paired(test: Mapping[str, Any] | None) -> str:
    if test is None or test["difference"] is None:
        return " | "
    low, high = test["interval"] or (math.nan, math.nan)
    return f"{test['difference']:+.4f} [{low:+.4f}, {high:+.4f}] | {test['p_value']:.3f}"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _label_figures(result: Mapping[str, Any]) -> Iterator[str]:
    low, high = result["macro_auroc_ci"]
    yield f"{result['n_films']} films of {result['n_studies']} studies, seed {result['seed']}."
    yield f"Macro-AUROC **{result['macro_auroc']:.3f}** [{low:.3f}, {high:.3f}] over {len(result['labels_in_macro'])} findings,"
    yield f"element accuracy {result['element_accuracy']:.3f}, label-F1 macro {result['label_f1_macro']:.3f}"
    yield f"and micro {result['label_f1_micro']:.3f}, Brier {result['brier_macro']:.3f}, ECE {result['ece_macro']:.3f}."
    yield ""
    yield "| finding | AUROC | F1 | Brier | ECE | positive | studies |"
    yield "|---|---|---|---|---|---|---|"
    for finding, v in result["per_label"].items():
        numbers = " | ".join("-" if v[k] is None else f"{v[k]:.3f}" for k in ("auroc", "f1", "brier", "ece"))
        yield f"| {finding} | {numbers} | {v['positives']} | {v['studies']} |"


def _retrieval_figures(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{result['n_queries']} queries, {result['n_gallery']} cases, seed {result['seed']}."
    yield ""
    yield "| queries | method | mAP | nDCG@10 | P@5 |"
    yield "|---|---|---|---|---|"
    parts = {part: result[part] for part in ("all", "abnormal") if part in result}
    parts |= {f"by words, {part}": v for part, v in result.get("by_text", {}).items() if "methods" in v}
    parts |= {f"by region, {part}": v for part, v in result.get("by_region", {}).items() if part in _REGION_PARTS}
    for part, found in parts.items():
        for name, v in found["methods"].items():
            yield f"| {part} ({found['n']}) | {name} | {v['map']:.3f} | {v['ndcg_at_10']:.3f} | {v['p_at_5']:.3f} |"


def _operating_points(calibration: Calibration) -> Iterator[str]:
    yield "## Operating points"
    yield ""
    yield "| finding | spoken of | state | flag | deny | positives in calibration | AUROC there |"
    yield "|---|---|---|---|---|---|---|"
    for finding in FINDINGS:
        v = calibration.findings[finding]
        auroc = "-" if v.auroc is None else f"{v.auroc:.3f}"
        yield f"| {finding} | {v.reliability} | {v.state:.3f} | {v.flag:.3f} | {v.deny:.3f} | {v.positives} | {auroc} |"
    yield ""


def _limits() -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield "- Trained on a few thousand films of two North American hospitals and published figures; other devices, children and"
    yield "  other populations are not what it knows. The gate turns away what is far from its films, not all it misreads."
    yield "- Small nodules, fractures and the position of tubes are beyond its resolution."
    yield "- Change between two films is said rarely and is not validated: `python -m eval change` says how little is known of it."
    yield "- The decoder words what the film decided; blinded to the film it draws other boxes and hardly says other words."
    yield "- Spanish and Japanese were read by no native radiologist. Other writers ran here as tiny untrained models alone."
    yield "- Grad-CAM and attention barely depend on the last layer: they are no reasons (`python -m eval explanations`)."
    yield "- Boxes are place maps inside an anatomical prior, not segmentations; `python -m eval grounding` says how good they are."
    yield "- A finding it does not speak of is listed as not assessed: absence from the draft is not absence from the film."
