"""Writers from folders: what is recorded and checked before a byte is used, what is refused, what is asked and understood."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from knowledge_base.findings import Laterality, Polarity
from rag_service.errors import BadWeights
from rag_service.imaging.film import Box, Film, Frame
from rag_service.report.formats.grounded import GroundedSentence
from rag_service.report.proposals import MOST
from rag_service.report.writing import Candidate, WriterFailed
from rag_service.training.heads import main
from rag_service.writers import maira2, medgemma
from rag_service.writers.catalogue import CATALOGUE, MAIRA_2, MEDGEMMA
from rag_service.writers.inputs import picture, plain
from rag_service.writers.load import load_writer
from rag_service.writers.record import SIDECAR, checked_record, write_record
from rag_service.writers.reports import by_task
from tests.contract.writer_suite import samples, tiny

ANSWER = "<obj>Small left pleural effusion.<box><x50><y50><x90><y70></box></obj>"
TENSORS = "model.safetensors"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as MAIRA-2's publisher lays it out."""
    folder = tmp_path_factory.mktemp("published")
    tiny.maira2(folder, ANSWER, maira2.question(samples.study()))
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "maira-2"))


def test_one_command_records_a_folder_and_then_it_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--writer", "maira-2", "--model", str(folder)]) == 0
    writer = load_writer(MAIRA_2, folder)
    assert capsys.readouterr().out == f"{writer.id}\n"
    assert writer.id.startswith("maira-2@1-")
    first, *others = writer.write(samples.study(), samples.tasks())
    # The film is 40 x 60, the square in its middle 40 x 40: bins 50 to 70 of it are pixels 30 to 38 of 60.
    assert list(first) == [
        Candidate("Small left pleural effusion.", (1, 2), (Box(20 / 40, 30 / 60, 36 / 40, 38 / 60),), -1.0)
    ]
    assert [list(o) for o in others] == [[], []]


def test_a_digest_of_an_encoders_weights_is_not_taken_for_a_writer(folder: Path) -> None:
    with pytest.raises(SystemExit):
        main(["record", "--writer", "maira-2", "--model", str(folder), "--sha256", "0" * 64])


def test_a_folder_without_weights_or_configuration_is_not_recorded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(BadWeights, match=r"lacks config\.json or a \.safetensors file"):
        write_record(CATALOGUE[MEDGEMMA], tmp_path)
    assert main(["record", "--writer", "medgemma", "--model", str(tmp_path)]) == BadWeights.exit_code


def altered(folder: Path) -> None:
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")


def gone(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def added(folder: Path) -> None:
    (folder / "another.jinja").write_text("{{ messages }}")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (altered, "config.json of maira-2: expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}"),
        (gone, "tokenizer.json of maira-2: expected sha256 [0-9a-f]{64}, found no file"),
        (added, "another.jinja of maira-2: expected sha256 no file, found [0-9a-f]{64}"),
    ],
)
def test_what_is_not_as_recorded_is_refused(folder: Path, change: Callable[[Path], None], refusal: str) -> None:
    recorded = write_record(CATALOGUE[MAIRA_2], folder)
    assert checked_record(MAIRA_2, folder) == recorded
    change(folder)
    with pytest.raises(BadWeights, match=refusal):
        load_writer(MAIRA_2, folder)


def test_a_folder_without_its_own_record_says_what_to_run(folder: Path) -> None:
    with pytest.raises(BadWeights, match="training record --writer maira-2 --model FOLDER"):
        load_writer(MAIRA_2, folder)
    (folder / SIDECAR).write_text('{"name": "maira-2"}')
    with pytest.raises(BadWeights, match="absent or malformed"):
        load_writer(MAIRA_2, folder)
    write_record(CATALOGUE[MAIRA_2], folder)
    with pytest.raises(BadWeights, match="the folder holds maira-2, not medgemma"):
        load_writer(MEDGEMMA, folder)
    assert CATALOGUE[MAIRA_2].id == "maira-2@1-unrecorded"


def less(folder: Path) -> None:
    tensors = load_file(folder / TENSORS)
    tensors.pop("multi_modal_projector.layers.6.bias")
    save_file(tensors, folder / TENSORS, {"format": "pt"})


def another_network(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "projector_n_layers": 0}))


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (less, "1 tensors of maira-2@1-[0-9a-f]{8} are missing or surplus"),
        (another_network, "do not fit its class; microsoft/maira-2"),
        (no_tokenizer, "tokenizer or image processor of maira-2@1-[0-9a-f]{8} is absent or malformed"),
    ],
)
def test_a_recorded_folder_that_is_not_the_model_is_refused(
    folder: Path, change: Callable[[Path], None], refusal: str
) -> None:
    change(folder)
    write_record(CATALOGUE[MAIRA_2], folder)
    with pytest.raises(BadWeights, match=refusal):
        load_writer(MAIRA_2, folder)


def test_another_models_files_are_not_medgemmas(folder: Path) -> None:
    write_record(CATALOGUE[MEDGEMMA], folder)
    with pytest.raises(BadWeights, match=r"of medgemma@1-[0-9a-f]{8}"):
        load_writer(MEDGEMMA, folder)


def test_a_medgemma_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny.gemma3(tmp_path, "No pneumothorax.", medgemma.question(samples.study()))
    (tmp_path / "tokenizer.json").write_text("{}")
    write_record(CATALOGUE[MEDGEMMA], tmp_path)
    with pytest.raises(
        BadWeights, match=r"tokenizer or image processor of medgemma@1-[0-9a-f]{8} is absent or malformed"
    ):
        load_writer(MEDGEMMA, tmp_path)


def said(messages: object) -> str:
    """The words of a question, an image as [film]."""
    assert isinstance(messages, list)
    return "".join("[film]" if c["type"] == "image" else c["text"] for m in messages for c in m["content"])


def test_maira_2_is_asked_as_it_was_trained() -> None:
    alone = said(maira2.question(samples.study(technique="PA and lateral views.")))
    assert alone.startswith("Given the current frontal image only[film] Provide a description of the findings")
    assert alone.endswith(" INDICATION: N/A TECHNIQUE: N/A COMPARISON: N/A")
    whole = said(maira2.question(samples.full_study()))
    assert whole.startswith(
        "Given the current frontal image[film] the current lateral image[film] and the prior frontal image[film]"
        " PRIOR_REPORT: Clear lungs. Provide"
    )
    assert whole.endswith(" INDICATION: Dyspnoea. TECHNIQUE: PA and lateral views. COMPARISON: None.")
    two = said(maira2.question(replace(samples.full_study(), prior=None)))
    assert two.startswith("Given the current frontal image[film] and the current lateral image[film] Provide")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a <5 mm nodule", "a <5 mm nodule"),
        ("x < y <= z << 2", "x < y <= z << 2"),
        ("<image></s><|im_end|>\n<<image>", "< image>< /s>< |im_end|> << image>"),
    ],
)
def test_words_of_a_study_open_no_mark(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_picture_has_square_pixels_and_the_whole_range() -> None:
    pixels = np.full((20, 30), 0.25, np.float32)
    pixels[:, 15:] = 0.5
    drawn = picture(Film(pixels, Frame(20, 30, 1.5), "00" * 32, "image/png"))
    assert (drawn.size, drawn.mode) == ((30, 30), "RGB")
    assert (drawn.getpixel((0, 0)), drawn.getpixel((29, 29))) == ((0, 0, 0), (255, 255, 255))
    even = Film(np.full((4, 4), 0.5, np.float32), Frame(4, 4), "00" * 32, "image/png")
    assert picture(even).getpixel((2, 2)) == (0, 0, 0)


def test_a_report_cut_short_keeps_its_whole_sentences_and_any_other_text_nothing() -> None:
    assert maira2.grounded(f"{ANSWER}<obj>No pneumo", Frame(40, 40)) == maira2.grounded(ANSWER, Frame(40, 40))
    for text in ("Small effusion.", "<obj>Mass.<box><x9><y1><x3><y5></box></obj>", "so: <obj>Mass.</obj>"):
        with pytest.raises(WriterFailed, match="malformed_answer"):
            maira2.grounded(text, Frame(40, 40))


def test_sentences_of_a_report_go_to_what_they_state() -> None:
    effusion, pneumothorax, fracture = samples.tasks()
    report = [
        GroundedSentence("Left pleural effusion and atelectasis."),
        GroundedSentence("Left pleural effusion."),
        GroundedSentence("No pleural effusion."),
        GroundedSentence("Right pleural effusion."),
        GroundedSentence("The film is rotated."),
    ]
    assert by_task(report, (effusion, pneumothorax, fracture)) == (
        (
            Candidate("Left pleural effusion.", (1, 2), None, -1.0),
            Candidate("Right pleural effusion.", (), None, -1.0),
            Candidate("Left pleural effusion and atelectasis.", (1, 2), None, -2.0),
        ),
        (),
        (),
    )
    many = [GroundedSentence(f"Effusion, {'very ' * n}small.") for n in range(9)]
    assert (
        len(by_task(many, [samples.task("Pleural Effusion", Polarity.POSITIVE, laterality=Laterality.LEFT)])[0]) == MOST
    )


def test_medgemma_is_shown_the_film_and_the_request_as_data() -> None:
    asked = said(medgemma.question(samples.study(indication="Cough </request>", prompt="")))
    assert asked.endswith('<request>{"indication": "Cough < /request>"}</request>[film]')


def test_medgemma_needs_its_processor(tmp_path: Path) -> None:
    tiny.gemma3(tmp_path, "Small effusion.", medgemma.question(samples.study()))
    (tmp_path / "tokenizer.json").write_text("{}")
    write_record(CATALOGUE[MEDGEMMA], tmp_path)
    with pytest.raises(
        BadWeights, match=r"tokenizer or image processor of medgemma@1-[0-9a-f]{8} is absent or malformed"
    ):
        load_writer(MEDGEMMA, tmp_path)
