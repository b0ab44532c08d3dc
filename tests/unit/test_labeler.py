"""The rule labeler on sentences written for this test: polarity, scope, lists, sides, degrees, change."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_base.findings import FINDINGS, Laterality, Polarity, Progression
from knowledge_base.records import Mention
from rag_service.report.labeler import Labeler, comparison_words, deidentification_marks, overall

LABELER = Labeler()
SIGNS = {Polarity.POSITIVE: "+", Polarity.NEGATIVE: "-", Polarity.UNCERTAIN: "?"}
SHORT = {
    "NF": "No Finding", "ECM": "Enlarged Cardiomediastinum", "CM": "Cardiomegaly", "LO": "Lung Opacity", "LL":
        "Lung Lesion",
    "ED": "Edema", "CO": "Consolidation", "PN": "Pneumonia", "AT": "Atelectasis", "PX": "Pneumothorax",
    "EF": "Pleural Effusion", "PO": "Pleural Other", "FX": "Fracture", "SD": "Support Devices",
}  # fmt: skip
NAMES = {finding: short for short, finding in SHORT.items()}

POLARITY = [
    # each observation affirmed, denied, hedged
    ("Normal chest radiograph.", "NF+"),
    ("No acute cardiopulmonary abnormality.", "NF+"),
    ("There is no evidence of active disease in the thorax.", "NF+"),
    ("Unremarkable examination.", "NF+"),
    ("No abnormality is seen.", "NF+"),
    ("No acute bony abnormality.", ""),
    ("Acute cardiopulmonary disease is present.", "NF-"),
    ("Acute cardiopulmonary disease is possible.", "NF?"),
    ("The mediastinum is widened.", "ECM+"),
    ("Widening of the superior mediastinum.", "ECM+"),
    ("Mediastinal contours are normal.", "ECM-"),
    ("No mediastinal widening.", "ECM-"),
    ("Possible mediastinal mass.", "ECM?"),
    ("The cardiomediastinal silhouette is enlarged.", "ECM+"),
    ("The cardiomediastinal silhouette is normal.", "ECM- CM-"),
    ("Cardiac and mediastinal contours are within normal limits.", "ECM- CM-"),
    ("Marked cardiomegaly.", "CM+"),
    ("Cardiomegally is again demonstrated.", "CM+"),
    ("The heart is mildly enlarged.", "CM+"),
    ("The cardiac silhouette is moderately enlarged.", "CM+"),
    ("Enlarged cardiac silhouette.", "CM+"),
    ("There is enlargement of the heart.", "CM+"),
    ("Borderline heart size.", "CM+"),
    ("Heart size is normal.", "CM-"),
    ("Normal heart size.", "CM-"),
    ("The cardiac silhouette is within normal limits.", "CM-"),
    ("Heart size is at the upper limits of normal.", "CM-"),
    ("The heart is not enlarged.", "CM-"),
    ("The heart is not significantly enlarged.", "CM-"),
    ("No cardiomegaly.", "CM-"),
    ("The heart may be enlarged.", "CM?"),
    ("Questionable cardiomegaly.", "CM?"),
    ("Hazy opacity in the right base.", "LO+"),
    ("Patchy airspace disease at the left base.", "LO+"),
    ("Perihilar infiltrates.", "LO+"),
    ("The lungs are clear.", "LO- CO-"),
    ("Clear lungs.", "LO- CO-"),
    ("Lungs are without focal opacity.", "LO-"),
    ("There may be a faint opacity in the lingula.", "LO?"),
    ("A 6 mm nodule in the right upper lobe.", "LL+"),
    ("Calcified granuloma in the left apex.", "LL+"),
    ("Several lung masses.", "LL+"),
    ("No suspicious pulmonary nodules or masses.", "LL- LL-"),
    ("Possible nodule behind the clavicle.", "LL?"),
    ("Interstitial oedema.", "ED+"),
    ("Mild pulmonary vascular congestion.", "ED+"),
    ("Findings of congestive heart failure.", "ED+"),
    ("No pulmonary edema.", "ED-"),
    ("Pulmonary vascularity is normal.", "ED-"),
    ("Early edema cannot be excluded.", "ED?"),
    ("Dense consolidation in the left lower lobe.", "CO+"),
    ("No focal consolidation.", "CO-"),
    ("Possible consolidation behind the heart.", "CO?"),
    ("Right middle lobe pneumonia.", "PN+"),
    ("No evidence of pneumonia.", "PN-"),
    ("Pneumonia is not excluded.", "PN?"),
    ("Pneumonia is in the differential.", "PN?"),
    ("Bibasilar atelectasis.", "AT+"),
    ("Collapse of the left lower lobe.", "AT+"),
    ("Without atelectasis.", "AT-"),
    ("This could be atelectasis.", "AT?"),
    ("Small right apical pneumothorax.", "PX+"),
    ("Negative for pneumothorax.", "PX-"),
    ("Pneumothorax is unlikely.", "PX-"),
    ("Question of a tiny pneumothorax.", "PX?"),
    ("Bilateral pleural effusions.", "EF+"),
    ("Small pleural fluid collection on the left.", "EF+"),
    ("Free of effusion.", "EF-"),
    ("The costophrenic angles are sharp.", "EF-"),
    ("Blunting of the left costophrenic angle.", "EF?"),
    ("Possible trace effusion.", "EF?"),
    ("Biapical pleural thickening.", "PO+"),
    ("Calcified pleural plaques.", "PO+"),
    ("No pleural thickening.", "PO-"),
    ("Possible pleural scarring.", "PO?"),
    ("Healed left rib fractures.", "FX+"),
    ("Compression fracture of T12.", "FX+"),
    ("No displaced fracture.", "FX-"),
    ("The bony structures are intact.", "FX-"),
    ("Cannot exclude a rib fracture.", "FX?"),
    ("A right chest port is in place.", "SD+"),
    ("Endotracheal tube above the carina.", "SD+"),
    ("Dual lead pacemaker.", "SD+"),
    ("No support device.", "SD-"),
    ("The chest tube has been removed.", "SD-"),
    ("Possible nerve stimulator.", "SD?"),
    # scope, lists, terminators
    ("No pneumothorax, effusion or consolidation.", "PX- EF- CO-"),
    ("There is no focal consolidation, large pleural effusion, or pneumothorax.", "CO- EF- PX-"),
    ("No pneumothorax, but a small effusion.", "PX- EF+"),
    ("No pneumothorax; moderate effusion.", "PX- EF+"),
    ("No edema; however, there is cardiomegaly.", "ED- CM+"),
    ("No effusion although the heart is enlarged.", "EF- CM+"),
    ("No consolidation except atelectasis at the base.", "CO- AT+"),
    ("No pneumothorax, small left effusion.", "PX- EF+"),
    ("Cardiomegaly without edema.", "CM+ ED-"),
    ("Effusion without pneumothorax.", "EF+ PX-"),
    ("Pneumothorax, effusion and consolidation are not seen.", "PX- EF- CO-"),
    ("Atelectasis is present and effusion is not seen.", "AT+ EF-"),
    ("Opacity may represent pneumonia or atelectasis.", "LO+ PN? AT?"),
    ("Opacity, possibly pneumonia, but no effusion.", "LO+ PN? EF-"),
    ("Infiltrate versus atelectasis in the left base.", "LO? AT?"),
    ("Opacity at the left base versus atelectasis.", "LO? AT?"),
    ("Opacity consistent with atelectasis.", "LO+ AT+"),
    ("Opacity suggestive of pneumonia.", "LO+ PN?"),
    ("No definite pneumothorax.", "PX-"),
    ("No findings to suggest pneumonia.", "PN-"),
    ("Neither effusion nor pneumothorax.", "EF- PX-"),
    ("Probable atelectasis.", "AT+"),
    ("Without a CT, pneumonia cannot be excluded.", "PN?"),
    ("Fracture of the ninth rib on the left side and some hazy opacity versus atelectasis.", "FX+ LO? AT?"),
    ("Lungs are clear of consolidation.", "CO-"),
    ("Heart size is normal and the lungs are clear.", "CM- LO- CO-"),
    ("The heart, lungs and pleural spaces are normal.", "CM- LO- CO- PX- EF-"),
    ("Heart is enlarged but lungs are clear.", "CM+ LO- CO-"),
    ("Lungs are clear without effusion.", "LO- CO- EF-"),
    # pseudo-negation, resolution, history, look-alikes
    ("No change in the left effusion.", "EF+"),
    ("No significant interval change in cardiomegaly.", "CM+"),
    ("Not only an effusion is seen.", "EF+"),
    ("The effusion has not resolved.", "EF+"),
    ("The effusion has resolved.", "EF-"),
    ("Resolution of the consolidation.", "CO-"),
    ("Resolving pneumonia.", "PN+"),
    ("History of pneumonia.", ""),
    ("Small pericardial effusion.", ""),
    ("Chronic obstructive pulmonary disease.", ""),
    ("Sternotomy wires are intact.", ""),
    ("Degenerative change of the spine.", ""),
    ("Lung volumes are low.", ""),
    ("The lungs are hyperinflated but clear.", "LO- CO-"),
    ("The heart is stable but the aorta is enlarged.", ""),
    ("Nipple shadow at the left base.", ""),
    # two in one, one word for two
    ("Left hydropneumothorax.", "PX+ EF+"),
    ("Airspace disease/atelectasis at the base.", "LO+ AT+"),
    ("Effusion, edema and cardiomegaly.", "EF+ ED+ CM+"),
]


def brief(mentions: tuple[Mention, ...]) -> str:
    """Mentions as "CM+ EF-", in order of the text."""
    return " ".join(NAMES[m.finding] + SIGNS[m.polarity] for m in mentions)


@pytest.mark.parametrize(("sentence", "expected"), POLARITY)
def test_findings_and_polarity(sentence: str, expected: str) -> None:
    assert sorted(brief(LABELER.read(sentence)).split()) == sorted(expected.split())


def test_the_table_covers_every_observation_at_every_polarity() -> None:
    covered = {cell for _, expected in POLARITY for cell in expected.split()}
    assert len(POLARITY) >= 120
    assert covered == {short + sign for short in SHORT for sign in "+-?"}


L, R, B = Laterality.LEFT, Laterality.RIGHT, Laterality.BILATERAL
PLACES = [
    ("Small left pleural effusion.", [("EF", L, None)]),
    ("Pleural effusion on the right.", [("EF", R, None)]),
    ("Bilateral effusions.", [("EF", B, None)]),
    ("Both lungs show hazy opacity.", [("LO", B, None)]),
    ("Effusions, right greater than left.", [("EF", B, None)]),
    ("Biapical pleural thickening.", [("PO", B, "apex")]),
    ("Bibasilar atelectasis.", [("AT", B, "base")]),
    ("RLL pneumonia.", [("PN", R, "lower lobe")]),
    ("Right middle lobe opacity.", [("LO", R, "middle lobe")]),
    ("Opacity in the left upper lobe.", [("LO", L, "upper lobe")]),
    ("Lingular atelectasis.", [("AT", L, "lingula")]),
    ("Left retrocardiac consolidation.", [("CO", L, "retrocardiac")]),
    ("Perihilar opacity.", [("LO", None, "perihilar")]),
    ("Nodule in the right mid lung.", [("LL", R, "mid zone")]),
    ("Right apical pneumothorax.", [("PX", R, "apex")]),
    ("Blunting of the right costophrenic angle.", [("EF", R, "costophrenic angle")]),
    ("Left effusion and right basilar atelectasis.", [("EF", L, None), ("AT", R, "base")]),
    ("Atelectasis at the left base and a right effusion.", [("AT", L, "base"), ("EF", R, None)]),
    ("Left effusion and atelectasis.", [("EF", L, None), ("AT", L, None)]),
    ("Effusion and atelectasis on the left.", [("EF", L, None), ("AT", L, None)]),
    ("Left effusion with cardiomegaly.", [("EF", L, None), ("CM", None, None)]),
    ("Opacity in the left base may represent pneumonia.", [("LO", L, "base"), ("PN", L, "base")]),
    ("The right heart border is obscured, with a left effusion.", [("EF", L, None)]),
    ("Elevated right hemidiaphragm with left atelectasis.", [("AT", L, None)]),
    ("Left effusion without right pneumothorax.", [("EF", L, None), ("PX", R, None)]),
    ("Left effusion but pneumothorax is seen.", [("EF", L, None), ("PX", None, None)]),
    ("Right PICC with tip in the SVC and no pneumothorax.", [("SD", R, "superior vena cava"), ("PX", None, None)]),
    ("Old fracture of the left clavicle.", [("FX", L, "clavicle")]),
]


@pytest.mark.parametrize(("sentence", "expected"), PLACES)
def test_side_and_place(sentence: str, expected: list[tuple[str, Laterality | None, str | None]]) -> None:
    assert [(NAMES[m.finding], m.laterality, m.location) for m in LABELER.read(sentence)] == expected


DEGREES = [
    ("Tiny apical pneumothorax.", ["trace"]),
    ("Trace effusion.", ["trace"]),
    ("Small effusion.", ["small"]),
    ("Mild cardiomegaly.", ["mild"]),
    ("The heart is slightly enlarged.", ["mild"]),
    ("Moderate edema.", ["moderate"]),
    ("Moderate to large effusion.", ["moderate to large"]),
    ("Large effusion.", ["large"]),
    ("Severe atelectasis.", ["severe"]),
    ("Massive effusion.", ["massive"]),
    ("Small effusion and moderate atelectasis.", ["small", "moderate"]),
    ("Small effusion and atelectasis.", ["small", None]),
    ("Effusion.", [None]),
]


@pytest.mark.parametrize(("sentence", "expected"), DEGREES)
def test_severity(sentence: str, expected: list[str | None]) -> None:
    assert [m.severity for m in LABELER.read(sentence)] == expected


NEW, STABLE, IMPROVED, WORSENED = Progression.NEW, Progression.STABLE, Progression.IMPROVED, Progression.WORSENED
CHANGES = [
    ("New left effusion.", [NEW]),
    ("Interval development of a consolidation.", [NEW]),
    ("Stable cardiomegaly.", [STABLE]),
    ("The effusion is unchanged.", [STABLE]),
    ("No significant interval change in the effusion.", [STABLE]),
    ("Again seen is a nodule.", [STABLE]),
    ("Persistent atelectasis.", [STABLE]),
    ("The effusion has decreased.", [IMPROVED]),
    ("Improved edema.", [IMPROVED]),
    ("The pneumothorax is smaller.", [IMPROVED]),
    ("Resolving consolidation.", [IMPROVED]),
    ("Worsening edema.", [WORSENED]),
    ("The effusion has increased.", [WORSENED]),
    ("Larger effusion.", [WORSENED]),
    ("Stable cardiomegaly and new effusion.", [STABLE, NEW]),
    ("Effusion and atelectasis are unchanged.", [STABLE, STABLE]),
    ("Enlargement of the cardiac silhouette.", [None]),
    ("Left effusion.", [None]),
]


@pytest.mark.parametrize(("sentence", "expected"), CHANGES)
def test_progression(sentence: str, expected: list[Progression | None]) -> None:
    assert [m.progression for m in LABELER.read(sentence)] == expected


def test_spans_quote_the_finding_and_follow_the_offset() -> None:
    sentence = "Mild cardiomegaly; the lungs are clear."
    first, second, third = LABELER.read(sentence, offset=100)
    assert (first.span, second.span, third.span) == ((105, 117), (123, 138), (123, 138))
    assert sentence[5:17] == "cardiomegaly"
    assert sentence[23:38] == "lungs are clear"


def test_report_mentions_quote_the_report_and_skip_the_indication() -> None:
    text = "INDICATION: Pneumonia.\nFINDINGS: No effusion.\nIMPRESSION: Left atelectasis."
    mentions = LABELER.read_report(text)
    assert [(text[slice(*m.span)], SIGNS[m.polarity]) for m in mentions] == [("effusion", "-"), ("atelectasis", "+")]


OVERALL = [
    ("No effusion. Small effusion.", {"Pleural Effusion": "+", "No Finding": "-"}),
    ("No effusion. Possible effusion.", {"Pleural Effusion": "?", "No Finding": "-"}),
    ("No effusion. No acute disease.", {"Pleural Effusion": "-", "No Finding": "+"}),
    ("No acute cardiopulmonary disease. Rib fracture.", {"Fracture": "+", "No Finding": "-"}),
    ("No acute disease. Pacemaker.", {"Support Devices": "+", "No Finding": "+"}),
    ("Pacemaker.", {"Support Devices": "+"}),
    (
        "Atelectasis. Lungs otherwise clear.",
        {"Atelectasis": "+", "Lung Opacity": "+", "Consolidation": "-", "No Finding": "-"},
    ),
    ("Edema.", {"Edema": "+", "Lung Opacity": "+", "No Finding": "-"}),
    ("Consolidation.", {"Consolidation": "+", "Lung Opacity": "+", "No Finding": "-"}),
    ("Possible pneumonia.", {"Pneumonia": "?", "Lung Opacity": "?", "No Finding": "-"}),
    ("No pneumonia.", {"Pneumonia": "-", "No Finding": "+"}),
    ("The patient is rotated.", {}),
]


@pytest.mark.parametrize(("report", "expected"), OVERALL)
def test_overall(report: str, expected: dict[str, str]) -> None:
    assert {f: SIGNS[p] for f, p in overall(LABELER.read_report(report)).items()} == expected


def test_overall_is_in_chexpert_order() -> None:
    found = list(overall(LABELER.read_report("Rib fracture. Edema. Cardiomegaly.")))
    assert found == sorted(found, key=FINDINGS.index)


COMPARED = [
    "new", "newly", "stable", "unchanged", "no significant change", "interval", "again", "persistent", "improved",
    "improving",
    "decreased", "decreasing", "increased", "increasing", "worsened", "worsening", "worse", "resolved",
    "resolving", "cleared",
    "prior", "previous", "previously", "compared with", "comparison", "since", "as before", "no longer", "progressed",
    "progression", "larger", "smaller", "enlarging", "diminished", "reduced", "redemonstrated", "similar to", "remains",
    "still", "residual", "recurrent", "developing", "earlier film", "old films", "baseline", "continued", "now",
    "evolving",
]  # fmt: skip


@pytest.mark.parametrize("word", COMPARED)
def test_words_that_presuppose_an_earlier_film_are_found_as_written(word: str) -> None:
    assert word in comparison_words(f"The effusion, {word}, is small.")
    assert comparison_words(f"{word.upper()} effusion.")[0] == word.upper()


@pytest.mark.parametrize(
    "text", ["", "Small left effusion.", "The heart is enlarged.", "Chronic scarring at the apex.", "Newton."]
)
def test_plain_statements_presuppose_nothing(text: str) -> None:
    assert comparison_words(text) == ()


@pytest.mark.parametrize(
    ("text", "marked"), [("XXXX effusion", True), ("seen ___", True), ("[**Name**]", True), ("X-ray, XX", False)]
)
def test_deidentification_marks(text: str, marked: bool) -> None:
    assert deidentification_marks(text) is marked


WORDS = st.sampled_from(
    [
        "no", "without", "possible", "heart", "lungs", "effusion", "edema", "is", "are", "normal", "enlarged", "clear",
        "left", "right", "and", "or", ",", ".", ";", "but", "/", "small", "new", "pneumothorax", "opacity", "may",
        "represent", "versus", "not", "seen", "has", "resolved", "XXXX", "FINDINGS:", "1.", "\n",
    ]
)  # fmt: skip


@given(st.one_of(st.text(max_size=300), st.lists(WORDS, max_size=60).map(" ".join)))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_and_spans_lie_in_it(text: str) -> None:
    for mention in LABELER.read_report(text):
        start, end = mention.span
        assert 0 <= start < end <= len(text)
        assert text[start:end].strip() == text[start:end]
    assert all(word in text for word in comparison_words(text))
    assert set(overall(LABELER.read_report(text))) <= set(FINDINGS)


@given(st.lists(WORDS, max_size=40).map(" ".join), st.integers(0, 500))
@settings(deadline=None)
def test_an_offset_only_shifts_spans(text: str, offset: int) -> None:
    here, there = LABELER.read(text), LABELER.read(text, offset)
    assert [(m.span[0] + offset, m.span[1] + offset) for m in here] == [m.span for m in there]
    assert brief(here) == brief(there)


@pytest.mark.parametrize(
    "unit", ["No effusion or edema. ", "no effusion ", "heart ", "effusion and ", "not ", "a. ", "left ", "versus "]
)
def test_reading_time_grows_with_the_text_and_no_faster(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * size)[:size]
        began = time.process_time()
        LABELER.read_report(text)
        return time.process_time() - began

    assert min(seconds(20_000) for _ in range(3)) < 1.0
    assert min(seconds(80_000) for _ in range(2)) < 8 * max(min(seconds(20_000) for _ in range(3)), 0.01)
