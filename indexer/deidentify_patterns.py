"""What a name, a date, a number or a place of a person looks like in English, Spanish and Japanese reports, as patterns.

Every repetition is bounded and runs of letters are taken whole (possessively), so a text is read in time proportional to its
length whatever it holds; a test walks the compiled patterns and proves the bounds. The kinds are those of the Safe Harbor list,
45 CFR 164.514(b)(2), as far as they have a form that can be told from clinical words.
"""

from __future__ import annotations

import re
from typing import Final

_MONTH: Final = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?|enero|febrero|marzo|abril|mayo|junio|julio|agosto|se[p]?tiembre|octubre|noviembre|diciembre|"
    r"ene|abr|ago|dic)"
)
_CAPITAL_MONTH: Final = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December|"
    r"(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"
)
_DAY: Final = r"(?:0?[1-9]|[12]\d|3[01])"
_YEAR: Final = r"(?:\d{4}|\d{2})"
_WORD: Final = r"(?>[A-ZÀ-ÖØ-Þ](?:[a-zß-öø-ÿ]|['’][A-Z])[\w'’-]{0,40})"
"""A word as names are written: a capital, then small letters (or O'N...)."""
_INITIAL: Final = r"(?:[A-Z]\.?[ -]?){1,3}"
_PARTICLE: Final = r"(?:(?:de|del|de la|de los|la|van|von|der|van der|den|da|di|do|dos|el|al|y|ter|le|bin)[ ])"
_NAME: Final = rf"(?:{_INITIAL}[ ]?{_PARTICLE}?)?{_WORD}(?:[ ]{_PARTICLE}{{0,2}}(?:[A-Z]\.(?!\w)|{_WORD})){{0,3}}"
_CAPITALS: Final = r"[A-Z]{2,20}(?:,?[ ][A-Z]{2,20}){0,3}"
_CREDENTIAL: Final = r"(?:M\.?D\.?|D\.O\.|Ph\.?D\.?|FRCR|FRCS|MBBS|RN|R\.N\.|RT\(R\)|PA-C|NP)(?!\w)"
_KANJI: Final = r"[一-龥々ヶ]"
_JAPANESE: Final = r"[一-龥々ヶぁ-んァ-ヴー]"
_REST: Final = r"[^\n;；。,、]{1,60}"
"""The rest of a labelled field."""

_SPELT: Final = re.IGNORECASE

PATTERNS: Final = (
    # --- marks of publishers: MIMIC's ___ and i2b2's [** **]
    re.compile(r"_{3,64}"),
    re.compile(r"\[\*\*[^\]\n]{0,80}\*\*\]"),
    # --- addresses on the net
    re.compile(r"(?:https?://|ftp://|\bwww\.)[^\s<>]{1,500}", _SPELT),
    re.compile(r"(?<![\w.+-])[\w.+-]{1,64}+@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}"),
    re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"),
    # --- numbers of persons, records and telephones
    re.compile(r"(?<![\w.])\d{1,10}(?:\.\d{1,30}){5,20}(?![\w.])"),
    re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", _SPELT),
    re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)"),
    re.compile(r"\b(?:\d{8}|[XYZ]\d{7})-?[A-HJ-NP-TV-Z]\b"),
    re.compile(r"(?<![\d.])(?:\(\d{3}\)[ ]?|\d{3}[ .-])\d{3}[ .-]\d{3,4}(?!\d)"),
    re.compile(r"(?<![\d.])(?:[679]\d{2}|9\d[ .-]\d{3})(?:[ .-]\d{2}){2,3}(?!\d)"),
    re.compile(r"\+\d{1,3}[ ()-]{0,3}\d(?:[ ()-]{0,2}\d){5,12}(?!\d)"),
    re.compile(r"(?<!\d)0\d{1,4}[-(（]\d{1,4}[-)）]\d{3,4}(?!\d)"),
    re.compile(r"\b[A-Za-z]{0,4}-?\d{6,40}+(?:-?[A-Za-z\d]{1,12})?\b(?!\.\d)"),
    re.compile(r"\b[A-Z]{1,4}-?\d{5}\b"),
    # --- labelled fields: the label goes with its value
    re.compile(
        r"\b(?:patient(?:'s)? name|nombre(?: del paciente| y apellidos)?|apellidos|name|dob|d\.o\.b\.|"
        r"date of birth|birth ?date|fecha de nacimiento|f\. ?nac\.?|address|home address|domicilio|direcci[oó]n|"
        r"referring (?:physician|doctor|provider|md)|ordering (?:physician|provider)|attending(?: physician)?|"
        r"radiologist|technologist|transcriptionist|m[eé]dico(?: solicitante| responsable)?|radi[oó]logo|facultativo)"
        r"[ ]?:[ \t]{0,8}(?!\n)" + _REST,
        _SPELT,
    ),
    re.compile(
        r"(?:患者氏名|患者名|氏名|お名前|名前|生年月日|住所|電話番号|電話|患者番号|患者ID|ID番号|カルテ番号|受付番号|"
        r"依頼医|読影医|主治医|担当医|紹介医|報告者|読影者|施設名)[ 　]?[:：][ 　\t]{0,8}" + _REST,
    ),
    re.compile(
        r"\b(?:tel(?:ephone)?|phone|pager|beeper|fax|cell|mobile|tel[eé]fono|m[oó]vil|tlf|ext(?:ension)?)\b"
        r"[.:# ]{0,4}\(?\d[\d() .-]{0,20}\d",
        _SPELT,
    ),
    re.compile(
        r"\b(?:mrn|medical record(?: number)?|id|accession|acc|nhs|ssn|dni|nie|nif|nhc|nuhsa|cip|sip|account|order|"
        r"passport|pasaporte|license|policy|n[ºo°]\.? ?(?:de )?historia|historia(?: cl[ií]nica)?)"
        r"[ ]?(?:(?:no\.?|number|num\.?|n[º°]|#)[ ]?)?(?:[:#][ ]{0,4})?[A-Z]{0,4}-?\d[\w/-]{2,40}+",
        _SPELT,
    ),
    # --- dates
    re.compile(r"(?<![A-Za-z\d])[MTSHR]\d{1,2}[./]\d{1,2}[./]\d{1,2}(?!\d)"),
    re.compile(r"(?<![\d.])(?:1[89]|20|21)\d{2}([-/.])(?:0?[1-9]|1[0-2])\1" + _DAY + r"(?!\d)"),
    re.compile(rf"(?<![\d./-]){_DAY}([-/.]){_DAY}\1{_YEAR}(?![\d])"),
    re.compile(
        rf"\b\d{{1,2}}(?:st|nd|rd|th)?[ -]{{0,3}}(?:of |de )?{_MONTH}\.?,?(?: de[l]?)?[ -]{{0,3}}\d{{2,4}}\b", _SPELT
    ),
    re.compile(rf"\b{_MONTH}\.?[ ]{{1,3}}\d{{1,2}}(?:st|nd|rd|th)?,?[ ]{{1,3}}\d{{2,4}}\b", _SPELT),
    re.compile(rf"\b{_MONTH}\.?,?[ ]{{1,3}}(?:de[l]? )?(?:19|20)\d{{2}}\b", _SPELT),
    re.compile(rf"\b{_CAPITAL_MONTH}[ ]{{1,2}}{_DAY}(?:st|nd|rd|th)?\b(?![.,]?\d|[ -]?(?:mm|cm|%|days|weeks|months))"),
    re.compile(
        rf"\b{_DAY}(?:st|nd|rd|th)?[ ](?:of )?(?:January|February|March|April|June|July|August|September|October|November|"
        r"December)\b"
    ),
    re.compile(
        r"\b\d{1,2} de (?:enero|febrero|marzo|abril|mayo|junio|julio|agosto|se[p]?tiembre|octubre|noviembre|diciembre)\b",
        _SPELT,
    ),
    re.compile(
        r"\b(?P<lead>(?:compar(?:ed|ison)(?: (?:is|was))?(?: (?:made|to|with))?|dated|(?:film|study|exam|radiographs?|x-?rays?|"
        r"chest) (?:of|from)|del d[ií]a|con fecha)[ :]{1,3}(?:the )?)(?:0?[1-9]|1[0-2]|[12]\d|3[01])/(?:[12]\d|3[01]|0?[1-9])\b"
        r"(?![/\d]|[ ]?(?:way|cm|mm|rd|th|of))",
        _SPELT,
    ),
    re.compile(r"(?:令和|平成|昭和|大正|明治)(?:\d{1,2}|元)年(?:\d{1,2}月)?(?:\d{1,2}日)?"),
    re.compile(r"(?:1[89]|20|21|１[８９]|２[０１])\d{2}年(?:\d{1,2}月)?(?:\d{1,2}日)?"),
    re.compile(r"(?<!\d)\d{1,2}月\d{1,2}日"),
    # --- persons
    re.compile(rf"\b(?:Dr|Mr|Mrs|Ms|Miss|Prof|Sr|Sra|Srta|Dra)\b\.?[ ]{{1,2}}(?:Prof\.?[ ]|Dr\.?[ ])?{_NAME}"),
    re.compile(r"\b(?:DR|MR|MRS|MS|PROF|DRA|SRA?)\.[ ]{1,2}[A-Z]{2,20}(?:[ ][A-Z]{2,20})?\b"),
    re.compile(rf"\b(?:[Dd]on|[Dd]oña|D\.|Dña\.|Dª\.?)[ ]{_NAME}"),
    re.compile(
        r"\b(?P<lead>(?i:(?:electronically )?(?:signed|dictated|read|interpreted|reviewed|transcribed|verified|approved|performed|"
        r"reported|finali[sz]ed|firmado|informado|validado|realizado) (?:electronically )?(?:by|por)|"
        r"(?:discussed|reviewed|communicated|spoke) with|(?:communicated|reported|called|conveyed|relayed|telephoned) to|"
        r"notified|comentado con|avisado a)[: ]{1,3})"
        rf"(?!XXXX)(?:(?:the[ ])?(?:resident|physician|nurse|attending|doctor|radiologist)[ ])?{_NAME}"
    ),
    re.compile(rf"\b(?P<lead>(?i:pa(?:tient|ciente))[ ]?:[ ]{{0,4}})(?:{_NAME}|{_CAPITALS})"),
    re.compile(rf"(?:{_WORD},[ ])?{_NAME},?[ ]{_CREDENTIAL}"),
    re.compile(rf"(?m:^)[ 　]{{0,4}}{_KANJI}{{2,5}}様(?=[、,\s　]|$)"),
    re.compile(rf"{_JAPANESE}{{1,6}}[ 　]{_JAPANESE}{{1,6}}[ 　]?(?:様(?=[、,。\s　(（]|の|$)|さん|殿|氏|先生|医師)"),
    re.compile(rf"{_KANJI}{{1,4}}(?:先生|さん)"),
    # --- ages above 89
    re.compile(
        r"(?<![\d.,/-])(?:9\d|1[01]\d|12[0-5])(?=[ -]?(?:(?:year|yr)s?[ -]?(?:old|of age)|y/?o\b|y\.o\.|a[ñn]os|歳|才))",
        _SPELT,
    ),
    re.compile(
        r"\b(?:ninet(?:y|ies)(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?|noventa(?: y \w{2,7})?)"
        r"(?=[ -](?:year|yr|a[ñn]os))",
        _SPELT,
    ),
    re.compile(r"\b(?P<lead>(?:aged?|edad)[: ]{1,3})(?:9\d|1[01]\d|12[0-5])(?!\d|[.,]\d|[ ]?(?:%|mm|cm))", _SPELT),
    # --- institutions and addresses
    re.compile(
        rf"\b(?!(?:The|Our|This|Outside|Previous|Prior|Referring|Local|Emergency|Teaching|Community)[ ])"
        rf"(?:St\.[ ])?{_WORD}(?:[ ](?:of[ ]|and[ ]|&[ ])?{_WORD}){{0,4}}[ ]"
        r"(?:Hospital|Medical Cent(?:er|re)|Infirmary|Clinic|Health System|Healthcare|University)"
        rf"(?:[ ]of[ ]{_WORD}(?:[ ]{_WORD}){{0,2}})?\b"
    ),
    re.compile(rf"\bUniversity of {_WORD}(?:[ ]{_WORD}){{0,3}}"),
    re.compile(
        r"\b(?:Hospital(?! (?:Day|Course|Stay|Admission|Discharge)\b)|"
        r"Clínica|Centro de Salud|Centro Médico|Ambulatorio|Universidad)"
        rf"(?:[ ](?:de[ ]|del[ ]|la[ ]|las[ ]|los[ ]|el[ ]|y[ ]){{0,3}}{_WORD}){{1,4}}"
    ),
    re.compile(rf"(?:{_KANJI}|[ァ-ヴー]){{2,16}}(?:病院|医院|クリニック|医療センター|診療所|大学)"),
    re.compile(
        rf"(?<![\d/.-])\d{{1,5}}[A-Z]?[ ]{_WORD}(?:[ ]{_WORD}){{0,2}}[ ]"
        r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Boulevard|Blvd|Court|Way|Terrace|Square)\b\.?"
        rf"(?:,[ ]{_WORD}(?:[ ]{_WORD}){{0,2}})?(?:,[ ][A-Z]{{2}}[ ]\d{{5}}(?:-\d{{4}})?)?"
    ),
    re.compile(
        r"\b(?:Calle|C/ |Avda\.?|Avenida|Plaza|Pza\.?|Paseo|P\.º)[ ]?"
        rf"(?:(?:de[ ]|del[ ]|la[ ]|las[ ]|los[ ]){{0,3}}{_WORD}[ ]?){{1,4}}(?:,?[ ](?:n[º°.][ ]?)?\d{{1,4}})?"
    ),
    re.compile(
        rf"(?:東京都|北海道|京都府|大阪府|{_KANJI}{{2,3}}県){_JAPANESE}{{1,20}}(?:[\d０-９]{{1,4}}[-－−丁目番地号]{{0,2}}){{0,4}}"
    ),
    re.compile(r"〒?(?<!\d)\d{3}[-－]\d{4}(?=[ 　]?(?:東京都|北海道|京都府|大阪府|[一-龥]{2,3}県))|〒\d{3}[-－]\d{4}"),
    re.compile(r"\b[A-Z]{2}[ ]\d{5}-\d{4}\b|,[ ][A-Z]{2}[ ]\d{5}\b"),
)  # fmt: skip
"""In the order they are tried. The group `lead` of a pattern that has one is kept: the words that tell what follows."""
