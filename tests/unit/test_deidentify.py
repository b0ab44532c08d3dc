"""De-identification of reports: what goes, what stays, in bounded time, and that no study exists without it."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.deidentify import MAX_KNOWN, blank, name_parts
from indexer.deidentify_patterns import PATTERNS
from indexer.studies import Study
from knowledge_base.cases import to_payload
from knowledge_base.records import Case
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences

# --- English


@pytest.mark.parametrize(
    ("written", "blanked"),
    [
        ("Compared with 03/14/2021.", "Compared with XXXX."),
        ("Film of 2021-03-14, unchanged.", "Film of XXXX, unchanged."),
        ("Seen 14.3.21 again.", "Seen XXXX again."),
        ("On 14 March 2021 and March 14, 2021.", "On XXXX and XXXX."),
        ("On 1st of Sept. 2020, the 2nd Oct 2020.", "On XXXX, the XXXX."),
        ("On march 3rd, 2021.", "On XXXX."),
        ("Since January 2019.", "Since XXXX."),
        ("Call 555-123-4567 now.", "Call XXXX now."),
        ("Call +81 3 1234 5678 now.", "Call XXXX now."),
        ("MRN: 123456 seen.", "MRN: XXXX seen."),
        ("mrn no. A12-345", "XXXX"),
        ("Accession #AB1234567", "Accession #XXXX"),
        ("NHS number 943 476 5919", "NHS number XXXX"),
        ("Study 20210314 read.", "Study XXXX read."),
        ("Mail jo.do+x@mail.example.org today", "Mail XXXX today"),
        ("Discussed with Dr. Smith.", "Discussed with XXXX."),
        ("Read by Prof Anna O'Neill-Jones, MD", "Read by XXXX, MD"),
        ("Mrs Brown fell.", "XXXX fell."),
        ("Patient name: Jane Doe; cough.", "XXXX; cough."),
        ("DOB: unknown day\nFINDINGS: clear.", "XXXX\nFINDINGS: clear."),
    ],
)
def test_what_names_a_person_is_blanked(written: str, blanked: str) -> None:
    assert blank(written) == blanked


@pytest.mark.parametrize(
    "text",
    [
        "A 2.5 cm nodule in the right upper lobe.",
        "Compression of T12 and L1, unchanged.",
        "Measures 12 x 15 mm, was 10 x 12 mm.",
        "Tube tip 3.2 cm above the carina.",
        "Heart-to-chest ratio 0.58 (58 %).",
        "Fractures of the 5th to 8th ribs.",
        "Ribs 4-6 on the left.",
        "Oxygen 2-4 litres, age 85.",
        "It may be 2 to 3 days old.",
        "No acute disease. Misses nothing.",
        "An id is not given.",
        "",
    ],
)
def test_clinical_words_and_numbers_are_kept(text: str) -> None:
    assert blank(text) == text


@pytest.mark.parametrize(
    ("written", "blanked"),
    [
        ("Compared to 3/14 and March 14.", "Compared to XXXX and XXXX."),
        ("Signed 14-MAR-2021 10:32.", "Signed XXXX 10:32."),
        ("Electronically signed by John A. Smith, M.D. on 3/14/2021", "Electronically signed by XXXX, M.D. on XXXX"),
        ("Read by J. R. van der Berg. Clear.", "Read by XXXX. Clear."),
        ("Discussed with resident Anna Li at noon.", "Discussed with XXXX at noon."),
        ("DR. SMITH was told.", "XXXX was told."),
        ("Patient: DOE, JANE", "Patient: XXXX"),
        ("Patient: Jane Doe was seen.", "Patient: XXXX was seen."),
        ("Referring physician: Smith\nClear.", "XXXX\nClear."),
        ("Pager 4512, ext. 55.", "XXXX, XXXX."),
        ("Tel: (617) 555-1234.", "Tel: XXXX."),
        ("Fax 617 555 1234", "Fax XXXX"),
        ("SSN 123-45-6789.", "SSN XXXX."),
        ("See https://pacs.local/x?id=1 for it", "See XXXX for it"),
        ("From host 10.1.2.3 today", "From host XXXX today"),
        ("UID 1.2.840.113619.2.55.3", "UID XXXX"),
        ("Key 123e4567-e89b-12d3-a456-426614174000.", "Key XXXX."),
        ("A 92-year-old man, a 101 y/o woman.", "A XXXX-year-old man, a XXXX y/o woman."),
        ("Ninety-three year old, aged 94.", "XXXX year old, aged XXXX."),
        ("Sent from Massachusetts General Hospital.", "Sent from XXXX."),
        ("Works at University of Iowa.", "Works at XXXX."),
        ("Lives at 123 Main Street, Boston, MA 02115.", "Lives at XXXX."),
        ("___ year old with [**Hospital 12**] cough", "XXXX year old with XXXX cough"),
        ("Mr.\u200b Smi\u200bth left.", "XXXX left."),
    ],
)
def test_identifiers_in_english_are_blanked(written: str, blanked: str) -> None:
    assert blank(written) == blanked


# --- Spanish and Japanese


@pytest.mark.parametrize(
    ("written", "blanked"),
    [
        ("Rx del 14/03/2021 y 14 de marzo de 2021.", "Rx del XXXX y XXXX."),
        ("Control en marzo de 2021; 3 de abril.", "Control en XXXX; XXXX."),
        ("Informado por Dra. María de la Cruz.", "Informado por XXXX."),
        ("D. José García López, NHC 1234567", "XXXX, NHC XXXX"),
        ("DNI 12345678Z y NIE X1234567L", "DNI XXXX y NIE XXXX"),
        ("Paciente: Juan Pérez", "Paciente: XXXX"),
        ("Nombre: Juan Pérez; tos.", "XXXX; tos."),
        ("Tlf 612 345 678 o 91 234 56 78", "Tlf XXXX o XXXX"),
        ("Varón de 95 años.", "Varón de XXXX años."),
        ("Hospital Universitario La Paz, Calle Mayor, 12", "XXXX, XXXX"),
        ("山田太郎様、胸部正面", "XXXX、胸部正面"),
        ("氏名：山田 太郎\n所見:異常なし", "XXXX\n所見:異常なし"),
        ("生年月日:昭和45年3月2日", "XXXX"),
        ("令和3年3月14日と2021年3月14日、3月15日", "XXXXとXXXX、XXXX"),
        ("２０２１年３月１４日に撮影", "XXXXに撮影"),
        ("R3.3.14撮影", "XXXX撮影"),
        ("佐藤先生に報告", "XXXXに報告"),
        ("山田 花子さんの胸部", "XXXXの胸部"),
        ("電話 03-1234-5678", "電話 XXXX"),
        ("横浜市立病院にて", "XXXXにて"),
        ("東京都千代田区1-1-1", "XXXX"),
        ("97歳男性", "XXXX歳男性"),
    ],
)
def test_identifiers_in_spanish_and_japanese_are_blanked(written: str, blanked: str) -> None:
    assert blank(written) == blanked


@pytest.mark.parametrize(
    "text",
    [
        "L1-L2 disc narrowing, T8/9 wedge.",
        "Tip 3/4 of the way down the trachea.",
        "SARS-CoV-2, formerly 2019-nCoV.",
        "SpO2 95 %, FEV1 92 % of predicted.",
        "T 37.5, HR 120, BP 120/80, NYHA II/III.",
        "Grade 2/6 murmur; 1/2 of the lung.",
        "MR angiography and DR chest compared.",
        "500-1000 mL of fluid on Hospital Day 2.",
        "Approved by the Institutional Review Board.",
        "C/Spine and T-spine are clear.",
        "An 89-year-old woman.",
        "It may represent edema.",
        "Patient: is rotated.",
        "Nódulo de 2 cm en LSD, sin cambios desde hace 3 meses.",
        "Hospitalizado por neumonía.",
        "結節様の陰影、すりガラス様陰影を認める。",
        "同様に多様な所見、一様な濃度。",
        "3か月前、2年前と比較し2cm大。",
    ],
)
def test_what_only_looks_like_it_is_kept(text: str) -> None:
    assert blank(text) == text


# --- what the study's own header says


def test_names_and_numbers_of_the_header_are_blanked_in_any_case() -> None:
    known = (*name_parts("YAMADA^Tarou^^Dr"), "ab-77", "St Mary  West")
    text = "Yamada came; TAROU too. Number AB-77. Seen at St Mary West. Yamadas stay, tab-77 too."
    assert blank(text, known) == "XXXX came; XXXX too. Number XXXX. Seen at XXXX. Yamadas stay, tab-77 too."


def test_a_short_name_counts_only_as_names_are_written() -> None:
    assert (
        blank("Li saw LI; the list is limited, li.", ("Li", "", "x", "12")) == "XXXX saw XXXX; the list is limited, li."
    )


def test_a_name_in_three_scripts_has_its_words_and_its_whole() -> None:
    assert name_parts("Yamada^Tarou=山田^太郎=やまだ^たろう") == (
        "Yamada", "Tarou", "山田", "太郎", "やまだ", "たろう", "YamadaTarou", "山田太郎", "やまだたろう",
    )  # fmt: skip
    assert blank("山田太郎は山田の家。林は残る。", (*name_parts("山田^太郎"), "林")) == "XXXXはXXXXの家。林は残る。"


def test_a_header_with_thousands_of_names_is_believed_in_part() -> None:
    assert MAX_KNOWN == 200
    many = [f"nam{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(300)]
    assert blank(f"{sorted(many)[199]} {sorted(many)[200]}", many) == "XXXX " + sorted(many)[200]


# --- time, and doing it twice


def _walk(parsed: object, product: int = 1) -> int:
    """The largest product of nested repetition bounds; an unbounded one fails."""
    from re import _constants, _parser  # type: ignore[attr-defined]

    most = product
    for operation, argument in parsed:  # type: ignore[attr-defined]
        inner = product
        items = argument if isinstance(argument, tuple | list) else (argument,)
        if operation in {_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT}:
            assert argument[1] != _constants.MAXREPEAT
            inner, items = product * max(argument[1], 1), (argument[2],)
        for item in items:
            for sub in item if isinstance(item, list) else (item,):
                if isinstance(sub, _parser.SubPattern):
                    most = max(most, _walk(sub, inner))
        most = max(most, inner)
    return most


@pytest.mark.parametrize("pattern", PATTERNS, ids=range(len(PATTERNS)))
def test_no_pattern_repeats_without_bound(pattern: re.Pattern[str]) -> None:
    from re import _parser  # type: ignore[attr-defined]

    assert _walk(_parser.parse(pattern.pattern, pattern.flags)) <= 1_500


def test_an_unbounded_pattern_would_be_seen() -> None:
    from re import _parser  # type: ignore[attr-defined]

    with pytest.raises(AssertionError):
        _walk(_parser.parse("a(b|c+)"))


@given(st.text(alphabet="aZ1 .-/@:,;_X^('\n様年月日Dr", max_size=80) | st.text(max_size=80))
@settings(max_examples=300, deadline=None)
def test_blanking_twice_changes_nothing_more(text: str) -> None:
    assert blank(blank(text)) == blank(text)


@pytest.mark.parametrize(
    "piece",
    ["A", "Aa ", "Aa. ", "Aa, ", "A. ", "Aa de ", "Dr. ", "1", "1.", "1-", "1 ", "(1", "a@", "a.", "_", "[**", "Ab-", "O'A",
     "日", "山 ", "山様", "1月", "read by ", "Name: ", "id 1", "Jan 1 ", "Hospital de ", "University of ", "東京都1-", "www.",
     "1 Aa ", "9 ", "ninety-", "St. Aa ", "0-", " ", "\n", "Calle ", "Calle de la Aa ", "Aa and Aa ", "A.-", "tel ("],
)  # fmt: skip
def test_time_grows_with_the_length_alone(piece: str) -> None:
    def seconds(length: int) -> float:
        text = "x " + piece * (length // len(piece))
        began = time.process_time()
        blank(text)
        return time.process_time() - began

    assert seconds(32_000) < 2.0


# --- no study without it


def test_a_study_is_blanked_as_it_is_made() -> None:
    study = Study("s", "1", "p", None, "Dr. Smith saw Doe.", view="Doe^Jane", sex="Jane", age_years=97, known=("Doe",))
    assert study == Study("s", "1", "p", None, "XXXX saw XXXX.", age_years=90)
    assert "Doe" not in repr(study)
    assert replace(study, text="Mrs. Brown").text == "XXXX"
    kept = Study("s", "1", "p", None, "Clear.", view="PA", sex="F", age_years=89)
    assert (kept.text, kept.view, kept.sex, kept.age_years) == ("Clear.", "PA", "F", 89)


def canaries(count: int) -> list[tuple[str, str]]:
    """Made-up identifiers, each in a line of a report as such lines are written: (identifier, line)."""
    first = ("Joanna", "Wei", "Mateo", "Priya", "Lars")
    last = ("Quillfeather", "Ó'Broin", "Vandersloot", "Ibáñez", "Katzenbach-Noor")
    made = []
    for n in range(count):
        name = f"{first[n % 5]} {last[n // 5 % 5]}"
        number, day = f"{7_000_000 + n * 37}", f"{n % 28 + 1:02d}/{n % 12 + 1:02d}/{1930 + n % 90}"
        made.append(
            (
                (name, f"Discussed with Dr. {name} by telephone."),
                (name, f"Electronically signed by: {name}, MD"),
                (name, f"Patient: {name}"),
                (number, f"MRN: {number}."),
                (f"AC{number}", f"Accession AC{number} was read."),
                (day, f"Comparison film of {day}."),
                (f"u{n}@clinic.example", f"Mail u{n}@clinic.example for films."),
                (f"617-555-{n % 10_000:04d}", f"Call 617-555-{n % 10_000:04d} with questions."),
                (f"{n % 9000 + 1} {last[n % 5 - 3]} Street", f"Lives at {n % 9000 + 1} {last[n % 5 - 3]} Street."),
                (f"{number}4Z", f"DNI {number}4Z, varón."),
                (f"https://pacs.example/{n}", f"See https://pacs.example/{n} online."),
                (
                    f"{1950 + n % 70}年{n % 12 + 1}月{n % 28 + 1}日",
                    f"{1950 + n % 70}年{n % 12 + 1}月{n % 28 + 1}日に撮影。",
                ),
                (f"1.2.840.{n}.7.6.{number}", f"UID 1.2.840.{n}.7.6.{number} sent."),
            )[n % 13]
        )
    return made


def test_ten_thousand_identifiers_and_none_is_stored() -> None:
    labeler, made, stored = Labeler(), canaries(10_000), []
    for start in range(0, len(made), 20):
        text = "FINDINGS: Clear lungs.\n" + "\n".join(line for _, line in made[start : start + 20])
        study = Study("s", str(start), "p", None, text)
        case = Case("s", study.study, "p", study.text, read_case_sentences(study.text, labeler))
        stored.append(str(to_payload(case)))
    assert len(made) == 10_000
    assert [i for n, (i, _) in enumerate(made) if i in stored[n // 20]] == []
    assert all("Clear lungs." in payload for payload in stored)


MARKED = """
INDICATION: 58 year old man, cough. Requested by Dr. «Helena Marsh», seen «4/2/2019» at «Lakeview General Hospital».
COMPARISON: «March 3, 2018». «Mr. Albright» was then at home, «12 Orchard Road».
FINDINGS: Nodule of 8 mm in the right upper lobe, image 12/40, stable. T7 wedge, 2-3 mm. Ribs 5-7.
Contact «617-555-0199» or pager «4471». Findings discussed with «Omar Said» at 10:30.
Electronically signed by: «Priya Natarajan», MD on «2019-04-02». MRN «00482913», accession «CR1900482».
Film of «12 Feb 2017» shows a 91 percent fill; the tip is 3.5 cm above the carina. «93» year old mother.
Call «Natasha» in radiology. Ms. «Green» has a green sputum. Told to «Marsh» again, who agrees.
Report to «j.marsh@lakeview.example»; «https://pacs.lakeview.example/9». Insurance number «QX-55-KL».
Paciente: «Carmen Ruiz Ortega», NHC «4456123», DNI «44561237Q». Nódulo de 8 mm, estable desde hace 2 meses.
Informado por «Dr. Álvaro Peña» el «2 de abril de 2019», «Hospital Clínico San Blas». Tel. «612 555 019».
Doña «Inés Prado» vive en «Calle del Olmo, 4». Control el «02-04-2019». La hermana, «Lucía», tosía.
氏名：«高橋 一郎»
生年月日：«昭和30年4月2日»
«2019年4月2日»、«高橋一郎様»の胸部。 結節様の陰影、2cm大。«鈴木先生»へ報告。«青葉中央病院»。電話«045-555-0199»。
担当の«鈴木»が確認。«96»歳の母。
"""
"""Made-up report lines; what identifies stands between « and »."""


def test_recall_and_precision_on_made_up_lines() -> None:
    marks = re.findall("«(.*?)»", MARKED)
    lines = [re.sub("[«»]", "", line) for line in MARKED.splitlines()]
    missed = [m for line, plain in zip(MARKED.splitlines(), lines, strict=True)
              for m in re.findall("«(.*?)»", line) if m in blank(plain)]  # fmt: skip
    clinical = re.sub("«.*?»", " ", MARKED)
    assert (len(marks), missed) == (41, ["Natasha", "Marsh", "QX-55-KL", "Lucía", "高橋一郎様", "鈴木"])
    for phrase in ("8 mm", "12/40", "T7 wedge, 2-3 mm", "Ribs 5-7", "91 percent", "3.5 cm", "green sputum", "hace 2 meses",
                   "結節様の陰影、2cm大", "58 year old"):  # fmt: skip
        assert phrase in clinical and phrase in "\n".join(blank(line) for line in lines)
