"""From hand-coded tags to observations: one row for every rule, with what it must have and must lack."""

from __future__ import annotations

import pytest

from knowledge_base.findings import FINDINGS
from rag_service.datasets import mesh


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("Cardiomegaly/mild", {"Cardiomegaly"}),
        ("Cardiac Shadow/enlarged", {"Cardiomegaly"}),
        ("Cardiac Shadow/borderline", {"No Finding"}),
        ("Heart/enlarged/severe", {"Cardiomegaly"}),
        ("Heart", {"No Finding"}),
        ("Mediastinum/enlarged", {"Enlarged Cardiomediastinum"}),
        ("Mediastinum/prominent", {"Enlarged Cardiomediastinum"}),
        ("Mediastinum/mass", {"Enlarged Cardiomediastinum"}),
        ("Mediastinum/shift", {"No Finding"}),
        ("Aortic Aneurysm", {"Enlarged Cardiomediastinum"}),
        ("Opacity/lung/base/left", {"Lung Opacity"}),
        ("Airspace Disease", {"Lung Opacity"}),
        ("Infiltrate/lung", {"Lung Opacity"}),
        ("Consolidation/lung", {"Lung Opacity", "Consolidation"}),
        ("Pneumonia", {"Lung Opacity", "Pneumonia"}),
        ("Pulmonary Atelectasis/base", {"Lung Opacity", "Atelectasis"}),
        ("Pulmonary Edema", {"Lung Opacity", "Edema"}),
        ("Pulmonary Congestion", {"Edema"}),
        ("Heart Failure", {"Edema"}),
        ("Nodule/lung", {"Lung Lesion"}),
        ("Mass/lung/upper lobe", {"Lung Lesion"}),
        ("Mass/mediastinum", {"No Finding"}),
        ("Mass/breast", {"No Finding"}),
        ("Mass/hilum/right", {"No Finding"}),
        ("Granuloma", {"Lung Lesion"}),
        ("Calcified Granuloma/lung", {"Lung Lesion"}),
        ("Pneumothorax/left", {"Pneumothorax"}),
        ("Hydropneumothorax", {"Pneumothorax", "Pleural Effusion"}),
        ("Hemopneumothorax", {"Pneumothorax", "Pleural Effusion"}),
        ("Pleural Effusion/right/small", {"Pleural Effusion"}),
        ("Hemothorax", {"Pleural Effusion"}),
        ("Thickening/pleura", {"Pleural Other"}),
        ("Thickening/costophrenic angle", {"Pleural Other"}),
        ("Thickening/bronchi", {"No Finding"}),
        ("Pleura/calcified", {"Pleural Other"}),
        ("Pleura/normal", {"No Finding"}),
        ("Fractures, Bone/ribs", {"Fracture"}),
        ("Catheters, Indwelling", {"Support Devices", "No Finding"}),
        ("Implanted Medical Device", {"Support Devices", "No Finding"}),
        ("Tube, Inserted", {"Support Devices", "No Finding"}),
        ("Medical Device", {"Support Devices", "No Finding"}),
        ("Stents", {"Support Devices", "No Finding"}),
        ("normal", {"No Finding"}),
        ("Scoliosis", {"No Finding"}),
    ],
)
def test_what_a_tag_means(tag: str, expected: set[str]) -> None:
    found = mesh.findings([f" {tag} "])
    assert found is not None and tuple(found) == FINDINGS
    assert {f for f, present in found.items() if present} == expected


def test_every_heading_of_the_rules_is_in_the_table_above() -> None:
    assert len(mesh.RULES) == 31


def test_tags_add_up_and_no_indexing_is_unknown() -> None:
    several = mesh.findings(["Opacity/lung", "No Indexing", "Medical Device"])
    assert several is not None and {f for f in several if several[f]} == {"Lung Opacity", "Support Devices"}
    assert mesh.findings([]) is None
    assert mesh.findings(["No Indexing", "no indexing"]) is None
