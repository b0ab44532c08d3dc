"""The fixed words of a Japanese draft (所見)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from knowledge_base.findings import Laterality, Polarity
from rag_service.report.change import OF_SIZE, State
from rag_service.report.said import Phrases, Said

OF_AMOUNT: Final = frozenset({"Pleural Effusion", "Pneumothorax"})
"""Findings that there is little or much of; the others are small or large."""
NAMES: Final[Mapping[str, str]] = {
    "Enlarged Cardiomediastinum": "縦隔拡大",
    "Cardiomegaly": "心拡大",
    "Lung Opacity": "肺野の陰影",
    "Lung Lesion": "肺結節または腫瘤",
    "Edema": "肺水腫",
    "Consolidation": "浸潤影",
    "Pneumonia": "肺炎",
    "Atelectasis": "無気肺",
    "Pneumothorax": "気胸",
    "Pleural Effusion": "胸水",
    "Pleural Other": "胸膜肥厚",
    "Fracture": "骨折",
    "Support Devices": "留置デバイス",
}
SIDES: Final[Mapping[Laterality, str]] = {
    Laterality.RIGHT: "右",
    Laterality.LEFT: "左",
    Laterality.BILATERAL: "両側",
}
SEVERITIES: Final[Mapping[str, tuple[str, str]]] = {
    "trace": ("ごくわずかな", "ごく少量の"),
    "small": ("小さな", "少量の"),
    "mild": ("軽度の", "軽度の"),
    "moderate": ("中等度の", "中等量の"),
    "large": ("大きな", "多量の"),
    "severe": ("高度の", "高度の"),
    "massive": ("著明な", "大量の"),
    "trace to small": ("ごくわずかないし小さな", "ごく少量ないし少量の"),
    "small to moderate": ("小さいないし中等度の", "少量ないし中等量の"),
    "mild to moderate": ("軽度ないし中等度の", "軽度ないし中等度の"),
    "moderate to large": ("中等度ないし大きな", "中等量ないし多量の"),
    "moderate to severe": ("中等度ないし高度の", "中等度ないし高度の"),
}
"""Of findings that are small or large, and of those that there is little or much of."""
LOCATIONS: Final[Mapping[str, str]] = {
    "apex": "肺尖部",
    "upper lobe": "上葉",
    "middle lobe": "中葉",
    "lower lobe": "下葉",
    "upper zone": "上肺野",
    "mid zone": "中肺野",
    "lower zone": "下肺野",
    "base": "肺底部",
    "lingula": "舌区",
    "hilum": "肺門部",
    "perihilar": "肺門周囲",
    "suprahilar": "肺門上部",
    "infrahilar": "肺門下部",
    "retrocardiac": "心陰影背側",
    "costophrenic angle": "肋骨横隔膜角",
    "cardiophrenic angle": "心横隔膜角",
    "fissure": "葉間裂",
    "paratracheal": "傍気管部",
    "rib": "肋骨",
    "clavicle": "鎖骨",
    "humerus": "上腕骨",
    "spine": "脊椎",
    "superior vena cava": "上大静脈",
    "right atrium": "右房",
}
FORMS: Final[Mapping[Polarity, tuple[str, str]]] = {
    Polarity.POSITIVE: ("{}を認める", "{}を認め"),
    Polarity.UNCERTAIN: ("{}の可能性がある", "{}の可能性があり"),
    Polarity.NEGATIVE: ("{}は認めない", "{}は認めず"),
}
"""At the end of a sentence, and before what has changed."""
CHANGES: Final[Mapping[State, str]] = {
    State.NEW: "前回写真と比較して新たに出現している",
    State.STABLE: "前回写真と比較して不変である",
    State.RESOLVED: "前回写真と比較して消失している",
}
SIZES: Final[Mapping[State, str]] = {
    State.WORSENED: "前回写真と比較して増大している",
    State.IMPROVED: "前回写真と比較して縮小している",
}
AMOUNTS: Final[Mapping[State, str]] = {
    State.WORSENED: "前回写真と比較して増加している",
    State.IMPROVED: "前回写真と比較して減少している",
}
EXTENTS: Final[Mapping[State, str]] = {
    State.WORSENED: "前回写真と比較して増悪している",
    State.IMPROVED: "前回写真と比較して改善している",
}


def sentence(said: Said) -> str:
    """One sentence: side and place, degree, finding; then the change. A side without a place stands before the finding."""
    side = "" if said.laterality is None else SIDES[said.laterality]
    degree = "" if said.severity is None else SEVERITIES[said.severity][said.finding in OF_AMOUNT]
    if said.location is None:
        body = f"{degree}{side}{NAMES[said.finding]}"
    else:
        body = f"{side}{LOCATIONS[said.location]}に{degree}{NAMES[said.finding]}"
    form = FORMS[said.polarity][said.change is not None].format(body)
    return f"{form}。" if said.change is None else f"{form}、{_change(said.finding, said.change)}。"


def _change(finding: str, change: State) -> str:
    if change in CHANGES:
        return CHANGES[change]
    table = AMOUNTS if finding in OF_AMOUNT else SIZES if finding in OF_SIZE else EXTENTS
    return table[change]


JAPANESE: Final = Phrases(
    names=NAMES,
    sides={side: (word,) for side, word in SIDES.items()},
    sentence=sentence,
    look_for="要確認：{}。",
    not_assessed="評価対象外：{}。",
    nothing_found="閾値に達した所見はない。",
    between="、",
    joint="",
)
