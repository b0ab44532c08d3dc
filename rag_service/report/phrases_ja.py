"""The fixed words of a Japanese draft (所見)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from knowledge_base.findings import Laterality, Polarity
from rag_service.report.change import OF_SIZE, State
from rag_service.report.said import Phrases, Said

OF_AMOUNT: Final = frozenset({"Pleural Effusion"})
"""Findings that there is little or much of; the others are slight or marked."""
SIDED: Final = frozenset({"Pneumothorax", "Pleural Effusion", "Pleural Other"})
"""Findings whose name a side is joined to (右胸水)."""
IN_THE_LUNG: Final = frozenset({"Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"})
"""Findings that lie in the lung of a side (右肺に); the others lie on a side of the body (右側に)."""
NAMES: Final[Mapping[str, str]] = {
    "Enlarged Cardiomediastinum": "縦隔拡大",
    "Cardiomegaly": "心拡大",
    "Lung Opacity": "異常陰影",
    "Lung Lesion": "結節または腫瘤",
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
SIDES_ALONE: Final[Mapping[Laterality, str]] = {
    Laterality.RIGHT: "右側",
    Laterality.LEFT: "左側",
    Laterality.BILATERAL: "両側",
}
"""A side that no word follows at once."""
DEGREES: Final[Mapping[str, str]] = {
    "trace": "ごくわずかな",
    "small": "小さな",
    "mild": "軽度の",
    "moderate": "中等度の",
    "large": "大きな",
    "severe": "高度の",
    "massive": "著明な",
    "trace to small": "微小ないし小さな",
    "small to moderate": "小ないし中等大の",
    "mild to moderate": "軽度ないし中等度の",
    "moderate to large": "中等大ないし大きな",
    "moderate to severe": "中等度ないし高度の",
}
AMOUNTS: Final[Mapping[str, str]] = {
    "trace": "ごく少量",
    "small": "少量",
    "mild": "軽度",
    "moderate": "中等量",
    "large": "多量に",
    "severe": "高度に",
    "massive": "大量に",
    "trace to small": "ごく少量ないし少量",
    "small to moderate": "少量ないし中等量",
    "mild to moderate": "軽度ないし中等度",
    "moderate to large": "中等量ないし多量に",
    "moderate to severe": "中等度ないし高度に",
}
"""How much there is of what there is little or much of, as it stands before the verb."""
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
    "paratracheal": "気管傍部",
    "rib": "肋骨",
    "clavicle": "鎖骨",
    "humerus": "上腕骨",
    "spine": "脊椎",
    "superior vena cava": "上大静脈",
    "right atrium": "右房",
}
UNPAIRED: Final = frozenset({"retrocardiac", "spine", "superior vena cava", "right atrium"})
"""Places that there is one of: a side beside them is the finding's (心陰影背側に左側の)."""
FORMS: Final[Mapping[Polarity, tuple[str, str]]] = {
    Polarity.POSITIVE: ("認める", "認め"),
    Polarity.UNCERTAIN: ("疑われる", "疑われ"),
    Polarity.NEGATIVE: ("認めない", "認めず"),
}
"""At the end of a sentence, and before what has changed."""
PARTICLES: Final[Mapping[Polarity, str]] = {
    Polarity.POSITIVE: "を",
    Polarity.UNCERTAIN: "が",
    Polarity.NEGATIVE: "は",
}
CHANGES: Final[Mapping[State, str]] = {
    State.NEW: "前回写真と比較して新たに出現している",
    State.STABLE: "前回写真と比較して不変である",
    State.RESOLVED: "前回写真と比較して消失している",
}
SIZES: Final[Mapping[State, str]] = {
    State.WORSENED: "前回写真と比較して増大している",
    State.IMPROVED: "前回写真と比較して縮小している",
}
QUANTITIES: Final[Mapping[State, str]] = {
    State.WORSENED: "前回写真と比較して増加している",
    State.IMPROVED: "前回写真と比較して減少している",
}
EXTENTS: Final[Mapping[State, str]] = {
    State.WORSENED: "前回写真と比較して増悪している",
    State.IMPROVED: "前回写真と比較して改善している",
}


def sentence(said: Said) -> str:
    """One sentence: side and place, degree, finding; then the change. An amount that is stated stands before the verb."""
    amount = said.finding in OF_AMOUNT and said.polarity is Polarity.POSITIVE
    before, after = ("", _degree(said)) if amount else (_degree(said), "")
    verb = FORMS[said.polarity][said.change is not None]
    form = f"{_where(said)}{before}{_thing(said)}{PARTICLES[said.polarity]}{after}{verb}"
    return f"{form}。" if said.change is None else f"{form}、{_change(said.finding, said.change)}。"


def _degree(said: Said) -> str:
    if said.severity is None:
        return ""
    if said.finding not in OF_AMOUNT:
        return DEGREES[said.severity]
    amount = AMOUNTS[said.severity]
    return amount if said.polarity is Polarity.POSITIVE else f"{amount.removesuffix('に')}の"


def _thing(said: Said) -> str:
    """The finding, with its side where that is joined to its name."""
    if said.laterality is None or said.location is not None or said.finding not in SIDED:
        return NAMES[said.finding]
    return f"{SIDES[said.laterality]}{NAMES[said.finding]}"


def _where(said: Said) -> str:
    """Side and place with their particle; nothing where there is neither, or the side is joined to the finding's name."""
    side, place = said.laterality, said.location
    if place is not None:
        name = LOCATIONS[place]
        if side is None:
            return f"{name}に"
        return f"{name}に{SIDES_ALONE[side]}の" if place in UNPAIRED else f"{SIDES[side]}{name}に"
    if side is None or said.finding in SIDED:
        return ""
    return f"{SIDES[side]}肺に" if said.finding in IN_THE_LUNG else f"{SIDES_ALONE[side]}に"


def _change(finding: str, change: State) -> str:
    if change in CHANGES:
        return CHANGES[change]
    table = QUANTITIES if finding in OF_AMOUNT else SIZES if finding in OF_SIZE else EXTENTS
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
    no_case="{finding}の症例はここにない。",
    one_case="{finding}の症例はここに1例のみ。",
    few_cases="{finding}の症例はここに{cases}例のみ。",
)
