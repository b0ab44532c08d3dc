"""Pairs judged by hand, of the kinds that RadFact shows its judge: a phrase, the sentences of another report, a verdict.

They are our own, not RadFact's, and by authors who knew the engine. They were judged as a reader would and stay where it fails: it
does not know what it does not read (tube positions, hyperinflation, the aorta), and knows no synonyms beside its lexicon.
"""

from __future__ import annotations

from typing import Final

from eval.entailment_pairs import C, E, N, Pair

EXAMPLES: Final = (
    # the same in other words
    Pair(("The cardiac silhouette is enlarged.",), "Cardiomegaly.", E, "other words"),
    Pair(("Heart size is at the upper limits of normal.",), "The heart is not enlarged.", E, "other words"),
    Pair(("Fluid is seen in the left pleural space.",), "Left pleural effusion.", E, "other words"),
    Pair(("Blunting of the right costophrenic angle.",), "Possible small right pleural effusion.", N, "other words"),
    Pair(("Collapse of the right lower lobe.",), "Right lower lobe atelectasis.", E, "other words"),
    Pair(("Airspace disease in the left lower lobe.",), "Left lower lobe opacity.", E, "other words"),
    Pair(("Vascular congestion is present.",), "Pulmonary edema.", N, "other words"),
    Pair(("The left lung apex shows free pleural air.",), "Left apical pneumothorax.", E, "other words"),
    Pair(("Healed rib fractures on the right.",), "Old right rib fractures.", E, "other words"),
    Pair(("A pacemaker overlies the left chest.",), "Left chest wall pacing device is present.", E, "other words"),
    Pair(("Lungs are hyperexpanded.",), "Hyperinflated lungs.", E, "other words"),
    Pair(("The thoracic aorta is tortuous.",), "Tortuous aorta.", E, "other words"),
    Pair(("No pleural fluid.",), "No pleural effusion.", E, "other words"),
    Pair(("The mediastinum is not widened.",), "Normal mediastinal contours.", E, "other words"),
    # one sentence of several bears on it
    Pair(
        ("Heart size is normal.", "There is a small left effusion.", "No pneumothorax."),
        "Left pleural effusion.",
        E,
        "report",
    ),
    Pair(
        ("Heart size is normal.", "There is a small left effusion.", "No pneumothorax."),
        "Right pleural effusion.",
        C,
        "report",
    ),
    Pair(
        ("Heart size is normal.", "There is a small left effusion.", "No pneumothorax."), "Cardiomegaly.", C, "report"
    ),
    Pair(
        ("Heart size is normal.", "There is a small left effusion.", "No pneumothorax."),
        "No focal consolidation.",
        N,
        "report",
    ),
    Pair(("No pneumothorax.", "No pleural effusion."), "No pneumothorax or pleural effusion.", E, "report"),
    Pair(("No pneumothorax.",), "No pneumothorax or pleural effusion.", N, "report"),
    Pair(("The lungs are clear.", "No pleural effusion."), "No consolidation, effusion or pneumothorax.", N, "report"),
    Pair(("The lungs are clear bilaterally.",), "No focal airspace opacity.", E, "report"),
    Pair(("No acute cardiopulmonary abnormality.",), "No pneumonia.", E, "report"),
    Pair(("No acute cardiopulmonary abnormality.",), "No rib fracture.", N, "report"),
    Pair(("Bibasilar opacities, left greater than right.",), "Left basilar opacity.", E, "report"),
    Pair(("Bibasilar opacities.",), "Right lower zone opacity.", E, "report"),
    Pair(("Multiple nodules in both lungs.",), "Right lung nodule.", E, "report"),
    # more or less exact
    Pair(("Right lower lobe consolidation.",), "Consolidation in the right lung.", E, "detail"),
    Pair(("Consolidation in the right lung.",), "Right lower lobe consolidation.", N, "detail"),
    Pair(("Small right apical pneumothorax.",), "Right pneumothorax.", E, "detail"),
    Pair(("Right pneumothorax.",), "Large right pneumothorax.", N, "detail"),
    Pair(("Trace left effusion.",), "Large left effusion.", C, "detail"),
    Pair(("Mild cardiomegaly.",), "The heart is enlarged.", E, "detail"),
    Pair(("Mild cardiomegaly.",), "Severe cardiomegaly.", C, "detail"),
    Pair(("Right middle lobe pneumonia.",), "Right lung opacity.", E, "detail"),
    Pair(("Right lung opacity.",), "Right middle lobe pneumonia.", N, "detail"),
    Pair(("A calcified granuloma in the left upper lobe.",), "Left upper lobe nodule.", E, "detail"),
    # hedges
    Pair(("Left basilar opacity may represent atelectasis or pneumonia.",), "Left lower lobe pneumonia.", N, "hedge"),
    Pair(("Left basilar opacity may represent atelectasis or pneumonia.",), "Possible pneumonia.", E, "hedge"),
    Pair(("A small effusion cannot be excluded.",), "Small pleural effusion.", N, "hedge"),
    Pair(("No convincing evidence of pneumonia.",), "Pneumonia.", C, "hedge"),
    Pair(("Opacity is likely atelectasis.",), "Atelectasis.", E, "hedge"),
    Pair(("Question of a small pneumothorax.",), "No pneumothorax.", N, "hedge"),
    # change
    Pair(("The left effusion has increased.",), "Left pleural effusion.", E, "change"),
    Pair(("The left effusion has increased.",), "Increasing left effusion.", E, "change"),
    Pair(("The left effusion has increased.",), "Decreased left effusion.", C, "change"),
    Pair(("Interval resolution of the pneumothorax.",), "No pneumothorax.", E, "change"),
    Pair(("Edema has improved.",), "No edema.", C, "change"),
    Pair(("Unchanged cardiomegaly.",), "Cardiomegaly is stable.", E, "change"),
    Pair(("Left effusion.",), "New left effusion.", N, "change"),
    Pair(("No new consolidation.",), "No consolidation.", N, "change"),
    # devices
    Pair(
        ("A right internal jugular catheter ends in the superior vena cava.",),
        "Right central venous catheter.",
        E,
        "device",
    ),
    Pair(
        ("The endotracheal tube ends above the carina.",),
        "The endotracheal tube is in the right main bronchus.",
        C,
        "device",
    ),
    Pair(("The endotracheal tube has been removed.",), "An endotracheal tube is present.", C, "device"),
    Pair(("A nasogastric tube is seen.",), "A pacemaker is seen.", N, "device"),
    Pair(("Median sternotomy wires are intact.",), "Sternotomy wires.", E, "device"),
    Pair(("No lines or tubes.",), "A chest tube is present.", C, "device"),
)
