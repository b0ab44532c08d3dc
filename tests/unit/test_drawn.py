"""What was drawn on films is read alike from four layouts; the folders are made up."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rag_service.datasets.drawn import Drawn, drawn
from rag_service.datasets.films import DatasetError, FilmRow


def a_film(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(80 * 40, dtype=np.uint32).reshape(80, 40).astype(np.uint8)).save(path)
    return path


def test_nih_boxes_are_fractions(tmp_path: Path) -> None:
    film = a_film(tmp_path / "a.png")
    (tmp_path / "images.csv").write_text("file,image,patient_id,view,age,sex,labels\na.png,a.png,1,PA,50,M,Effusion\n")
    (tmp_path / "boxes_1024.csv").write_text("image,finding,x,y,w,h\na.png,Effusion,512,0,512,256\n")
    (one,) = drawn(tmp_path)
    assert (one.row.path, one.finding, one.phrase) == (film, "Pleural Effusion", "")
    assert one.fractions(40, 80) == ((0.5, 0.0, 1.0, 0.25),)


def test_ms_cxr_has_a_phrase_for_each_set_of_boxes(tmp_path: Path) -> None:
    film = a_film(tmp_path / "files" / "p10" / "p1000" / "s50" / "d1.jpg")
    header = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split"
    place = "files/p10/p1000/s50/d1.jpg"
    (tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv").write_text(
        f"{header}\nd1,Pneumonia,left basal pneumonia,{place},100,100,100,50,200,400,test\n"
        f"d1,Pneumonia,left basal pneumonia,{place},0,0,50,100,200,400,test\n"
        f"gone,Pneumonia,right pneumonia,{place},0,0,50,100,200,400,test\n"
    )
    (one,) = drawn(tmp_path)
    assert (one.row.path, one.row.patient, one.row.study) == (film, "p1000", "s50")
    assert (one.finding, one.phrase) == ("Pneumonia", "left basal pneumonia")
    assert one.fractions(1, 1) == ((0.5, 0.25, 1.0, 0.375), (0.0, 0.0, 0.25, 0.25))


def test_vindr_boxes_are_pixels_of_the_film_and_its_classes_findings(tmp_path: Path) -> None:
    a_film(tmp_path / "test" / "v1.png")
    (tmp_path / "annotations_test.csv").write_text(
        "image_id,class_name,x_min,y_min,x_max,y_max\nv1,Nodule/Mass,10,20,30,60\nv1,Emphysema,1,1,2,2\nv1,No finding,,,,\n"
    )
    (one,) = drawn(tmp_path)
    assert (one.row.source, one.finding) == ("vindr-cxr", "Lung Lesion")
    assert one.fractions(40, 80) == ((0.25, 0.25, 0.75, 0.75),)


def test_a_scene_graph_gives_the_sentences_of_its_regions_that_say_a_finding_is_there(tmp_path: Path) -> None:
    a_film(tmp_path / "d1.png")
    region = {"bbox_name": "left lung", "original_x1": 20, "original_y1": 0, "original_x2": 40, "original_y2": 80}
    said = {
        "bbox_name": "left lung",
        "phrases": ["Left\n opacity.", "No effusion.", "Rotated."],
        "attributes": [
            ["anatomicalfinding|yes|lung opacity", "anatomicalfinding|yes|lung opacity"],
            ["anatomicalfinding|no|pleural effusion"],
            ["technicalassessment|yes|rotated"],
        ],
    }
    elsewhere = {"bbox_name": "neck", "phrases": ["Edema."], "attributes": [["disease|yes|edema"]]}
    scene = {"image_id": "d1", "patient_id": 1, "study_id": 2, "objects": [region], "attributes": [said, elsewhere]}
    (tmp_path / "d1_SceneGraph.json").write_text(json.dumps(scene))
    (tmp_path / "gone_SceneGraph.json").write_text(json.dumps({**scene, "image_id": "gone"}))
    (one,) = drawn(tmp_path)
    assert (one.finding, one.phrase, one.row.patient, one.row.study) == ("Lung Opacity", "Left opacity.", "p1", "s2")
    assert one.fractions(40, 80) == ((0.5, 0.0, 1.0, 1.0),)


@pytest.mark.parametrize("content", ["[]", "{", '{"image_id": "d1"}'])
def test_what_is_no_scene_graph_is_refused(tmp_path: Path, content: str) -> None:
    a_film(tmp_path / "d1.png")
    (tmp_path / "d1_SceneGraph.json").write_text(content)
    with pytest.raises(DatasetError, match="no scene graph"):
        drawn(tmp_path)


@pytest.mark.parametrize("number", ["wide", "nan"])
def test_boxes_are_numbers(tmp_path: Path, number: str) -> None:
    a_film(tmp_path / "v1.png")
    table = f"image_id,class_name,x_min,y_min,x_max,y_max\nv1,Cardiomegaly,10,20,{number},60\n"
    (tmp_path / "annotations_test.csv").write_text(table)
    with pytest.raises(DatasetError, match="no four numbers"):
        drawn(tmp_path)


def test_a_box_beside_the_film_is_refused(tmp_path: Path) -> None:
    row = FilmRow("vindr-cxr", tmp_path / "v.png", "v", "v")
    with pytest.raises(DatasetError, match="no part on its film"):
        Drawn(row, "Edema", "", ((50.0, 0.0, 60.0, 9.0),), None).fractions(40, 80)
