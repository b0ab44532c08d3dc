"""What is measured of the film model: findings, calibration, outliers, views, shift, concepts."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Final

from eval.commands.command import Command, Result, at_least_one, of_films, share, with_store
from rag_service.calibration import Calibration, load_calibration
from rag_service.datasets.films import Split
from rag_service.errors import BadWeights
from rag_service.models.catalogue import load_record
from rag_service.settings import Settings


def _labels(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import films, labels
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    predictions = labels.predict(films.read(options.folder, options.split), reader.encoder, reader.calibration)
    if options.predictions:
        labels.write_predictions(predictions, options.predictions)
    if options.raw_scores:
        labels.write_raw_scores(predictions, reader.encoder.record.id, options.raw_scores)
    result = labels.measure(predictions, reader.calibration, reader.encoder.record.id, options.seed)
    return result, labels.table(result)


def _calibration(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import calibration, films, labels
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    predictions = labels.predict(
        films.read(options.folder, options.split or Split.TEST), reader.encoder, reader.calibration
    )
    result = calibration.measure(predictions, reader.calibration, options.seed)
    return result, calibration.table(result)


def _recalibrate(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import recalibrate, site_scores
    from rag_service.operating_points import Target

    shipped = _shipped(settings)
    own = site_scores.read(options.scores, shipped.model)
    wished = (options.sensitivity, options.specificity)
    target = None if wished == (None, None) else Target(*wished)
    fitted = recalibrate.refit(own, shipped, target)
    result = recalibrate.measure(own, shipped, target, fitted)
    return result, recalibrate.table(result, recalibrate.write(fitted, options.out))


def _drift(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import drift, site_scores

    shipped = _shipped(settings)
    result = drift.measure(site_scores.read(options.scores, shipped.model), shipped)
    return result, drift.table(result)


def _shipped(settings: Settings) -> Calibration:
    """The model's own calibration, without the site's."""
    folder = Path(settings.model_folder)
    return load_calibration(folder, load_record(folder).id)


def _fairness(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import fairness, films, readings
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    rows = films.labelled(films.read(options.folder, options.split))
    read = readings.read(rows, reader.encoder)
    result = fairness.measure(rows, read, reader.calibration, reader.encoder.record.id, options.seed)
    return result, fairness.table(result)


def _indication(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import films, indication, readings
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    rows = films.labelled(films.read(options.folder, options.split))
    read = readings.read(rows, reader.encoder)
    told = indication.told(rows, options.folder, reader, read)
    result = indication.measure(rows, reader, read, told, options.seed)
    return result, indication.table(result)


def _lateral(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import lateral, readings
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    if reader.views is None:
        raise BadWeights("the model folder has no views.json: this model reads no laterals")
    found = lateral.studies(options.folder, options.split)
    front, side = (readings.read(rows, reader.encoder) for rows in (found.frontals, found.laterals))
    result = lateral.measure(found, front, side, reader.views, reader.calibration, options.seed)
    return result, lateral.table(result)


def _change(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import change
    from rag_service.wiring import build_reader

    result = change.measure(options.folder, build_reader(settings), options.split, options.seed, options.limit)
    return result, change.table(result)


def _of_change(parser: argparse.ArgumentParser) -> None:
    of_films(parser)
    parser.add_argument("--limit", type=at_least_one, help="at most so many pairs of films, drawn by seed")


def _projection(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import films, projection, readings
    from rag_service.wiring import build_reader

    encoder = build_reader(settings).encoder
    rows = films.read(options.folder, options.split)
    result = projection.measure(rows, readings.read(rows, encoder), encoder.record.id, options.seed)
    return result, projection.table(result)


def _bl_tta(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import bltta, films, readings
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    rows = films.labelled(films.read(options.folder, options.split))
    read = readings.read(rows, reader.encoder)
    result = bltta.measure(rows, read, reader.encoder, reader.calibration, options.seed)
    return result, bltta.table(result)


def _axes(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import axes, films, readings
    from eval.shift.device_curve import input_side
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    rows = films.labelled(films.read(options.folder, options.split))
    read = readings.read(rows, reader.encoder)
    shifted = axes.shifted_radius(rows, reader.encoder, input_side(reader), options.seed)
    result = axes.measure(rows, read, shifted, reader.encoder, reader.calibration, options.seed)
    return result, axes.table(result)


def _gate(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import gate
    from rag_service.wiring import build_reader

    result = gate.measure(gate.pictures(options.folder, options.projection), build_reader(settings))
    return result, gate.table(result)


def _ood(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import ood, ood_sets
    from rag_service.wiring import build_reader

    sets = ood_sets.sets(options.folder, options.limit, options.seed)
    result = ood.measure(sets, build_reader(settings), options.seed)
    return result, ood.table(result)


def _shift(settings: Settings, options: argparse.Namespace) -> Result:
    from eval.shift import lab
    from rag_service.wiring import build_reader, build_service

    if options.store:
        settings = replace(settings, store=options.store)
    readers = {"model": build_reader(settings)}
    if options.weak:
        readers["weak"] = build_reader(replace(settings, model_folder=str(options.weak)))
    only = lab.Part(options.only) if options.only else None
    plan = lab.Plan(options.folder, options.other, options.split, options.limit, only, options.drafts)
    absent = "://" not in settings.store and not Path(settings.store).is_dir()
    result = lab.measure(plan, readers, None if absent else lambda: build_service(settings), options.seed)
    return result, lab.table(result)


def _concepts(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import concepts, films, readings
    from rag_service.models.concepts import REMEDY
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    if reader.concepts is None:
        raise BadWeights(f"the model folder has no concepts; {REMEDY}")
    rows = films.read(options.folder, options.split)
    read = readings.read(rows, reader.encoder)
    result = concepts.measure(rows, read, reader.encoder, reader.concepts, options.seed)
    return result, concepts.table(result)


def _of_labels(parser: argparse.ArgumentParser) -> None:
    of_films(parser)
    parser.add_argument("--predictions", type=Path, help="write a CSV of probabilities: file, one column a label")
    parser.add_argument(
        "--raw-scores", type=Path, help="write a CSV for recalibrate: scores before calibration, and labels"
    )


def _of_recalibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scores", type=Path, help="CSV of raw scores and labels, as labels --raw-scores writes it")
    parser.add_argument("--out", type=Path, default=Path("build/site"), help="folder to write site-calibration.json in")
    wish = parser.add_mutually_exclusive_group()
    wish.add_argument("--sensitivity", type=share, help="operating points at this sensitivity, instead of best F1")
    wish.add_argument("--specificity", type=share, help="operating points at this specificity, instead of best F1")


def _of_drift(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scores", type=Path, help="CSV of raw scores, as labels --raw-scores writes it")


def _of_gate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument("--projection", choices=("frontal", "lateral"), help="of an Open-i folder, only these")


def _of_ood(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds openi/, nih/, not_chest/ ..., or pictures and labels.csv")
    parser.add_argument("--limit", type=at_least_one, help="at most so many pictures of each set, drawn by seed")


def _of_shift(parser: argparse.ArgumentParser) -> None:
    of_films(parser)
    parser.add_argument("--other", type=Path, help="a folder of another source, for the population shift")
    parser.add_argument("--limit", type=at_least_one, help="at most so many films, drawn by seed")
    parser.add_argument("--only", choices=("acquisition", "manifestation", "population", "markers"))
    parser.add_argument("--weak", type=Path, help="folder of a weaker model, measured beside")
    parser.add_argument("--drafts", type=at_least_one, default=0, help="also draft so many films before and after")
    with_store(parser)


COMMANDS: Final = (
    Command("labels", "the 14 findings from films alone", _labels, _of_labels),
    Command("calibration", "calibrators, conformal sets, tiers", _calibration),
    Command("recalibrate", "a site refits on its own labelled films", _recalibrate, _of_recalibrate),
    Command("drift", "do a site's scores look like the calibration films'?", _drift, _of_drift),
    Command("lateral", "what a lateral adds; frontal told from lateral", _lateral),
    Command("indication", "what the indication adds to the film", _indication),
    Command("change", "what has changed between two films of a patient", _change, _of_change),
    Command("projection", "is an AP film told from a PA one?", _projection),
    Command("bl-tta", "how many samples in the box are worth their time", _bl_tta),
    Command("concepts", "sparse concepts: fidelity, names, steering", _concepts),
    Command("axes", "what each axis of the box tells, and its radius", _axes),
    Command("gate", "which pictures of a folder are turned away", _gate, _of_gate),
    Command("ood", "usual frontals told from outliers, by kind and by score", _ood, _of_ood),
    Command("fairness", "groups of patients compared; what the latent leaks", _fairness),
    Command("shift", "device, finding and population changed", _shift, _of_shift),
)
