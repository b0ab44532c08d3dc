"""python -m eval TASK: measure the service. Every number it prints carries its counts, seed and signature."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from knowledge_base.errors import StoreError
from rag_service import settings as environment
from rag_service.calibration import Calibration, load_calibration
from rag_service.datasets.films import DatasetError, Split
from rag_service.errors import BadWeights, ServiceError
from rag_service.models.catalogue import load_record
from rag_service.settings import Settings, SettingsError

Result = tuple[dict[str, Any], str]


def main(arguments: list[str] | None = None) -> int:
    """Command line. Exit codes: 0 ok, 1 failed, 2 usage (also a folder that is not laid out as it should be), 3 damaged."""
    options = _parser().parse_args(arguments)
    try:
        settings = environment.load()
        result, table = _TASKS[options.task](settings, options)
    except (SettingsError, DatasetError) as error:
        return _fail(error, 2)
    except ServiceError as error:
        return _fail(error, error.exit_code)
    except StoreError as error:
        return _fail(error, 1)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")
    print(table)
    return 0


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


def _retrieval(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import films
    from eval.retrieval import gallery, run
    from eval.retrieval.searches import searches
    from rag_service.datasets import openi
    from rag_service.models.starter import load_starter
    from rag_service.models.text import NAME, load_text_encoder
    from rag_service.wiring import build_reader, layout

    reader, folder, encode = build_reader(settings), Path(settings.model_folder), load_text_encoder()
    cases = load_starter(folder, reader.encoder.record.id, NAME)
    base = gallery.gallery(cases, openi.reports(openi.bundled_archive()))
    rows = films.labelled(films.read(options.folder, options.split or Split.TEST))
    plan = layout(reader.encoder.record.id, reader.encoder.axes)
    with gallery.filled(base, settings, plan) as store:
        found = searches(store, reader, encode, settings)
        result = run.measure(options.folder, rows, base, reader, encode, found, options.seed)
    return result, run.table(result)


def _faults(_: Settings, options: argparse.Namespace) -> Result:
    from tempfile import TemporaryDirectory

    from eval import kills

    with TemporaryDirectory() as folder:
        result = kills.measure(options.points, options.seed, Path(folder))
    return result, kills.table(result)


def _consistency(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import consistency, films, readings
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    rows = [r for r in films.read(options.folder, options.split) if r.text]
    scores = readings.read(rows, reader.encoder).scores
    result = consistency.measure(rows, scores, reader.calibration, options.seed)
    return result, consistency.table(result)


def _evidence(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import evidence, films
    from rag_service.models.text import load_text_encoder
    from rag_service.service import RadiographService
    from rag_service.wiring import build_reader, build_store, memory_of

    if options.store:
        settings = replace(settings, store=options.store)
    reader, store = build_reader(settings), build_store(settings)
    try:
        memory = memory_of(settings, store, reader.encoder, load_text_encoder())
        rows = films.labelled(films.read(options.folder, options.split or Split.CALIBRATION))
        free = RadiographService(replace(reader, relevance=None), memory)
        result = evidence.measure(rows, RadiographService(reader, memory), free)
    finally:
        store.close()
    return result, evidence.table(result)


def _labeler(_: Settings, options: argparse.Namespace) -> Result:
    from eval import labeler

    measured = labeler.measure(labeler.load(options.folder), options.seed)
    return measured.to_json(), measured.table()


def _grounding(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import grounding
    from rag_service.wiring import build_reader

    result = grounding.measure(options.folder, build_reader(settings), options.split, options.seed)
    return result, grounding.table(result)


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


def _speed(settings: Settings, options: argparse.Namespace) -> Result:
    if options.part == "store":
        return _store_speed(settings, options)
    from eval import speed
    from rag_service.wiring import build_service

    if options.store:
        settings = replace(settings, store=options.store)
    result = speed.measure(lambda: build_service(settings), options.repeats)
    return result, speed.table(result)


def _store_speed(settings: Settings, options: argparse.Namespace) -> Result:
    from eval.store_speed import run
    from eval.store_speed.table import table
    from rag_service.datasets import openi
    from rag_service.models.starter import load_starter
    from rag_service.models.text import NAME
    from rag_service.wiring import layout

    folder = Path(settings.model_folder)
    cases = load_starter(folder, load_record(folder).id, NAME)
    plan = layout(cases.box_model, cases.boxes.shape[1] // 2)
    reports = openi.reports(openi.bundled_archive())
    with run.workplace(options.folder, options.keep) as place:
        bench = run.bench(place, settings, plan, cases, reports, options.seed)
        result = run.measure(bench, options.cases, options.baselines)
    return result, table(result)


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


def _fairness(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import fairness, films, readings
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    rows = films.labelled(films.read(options.folder, options.split))
    read = readings.read(rows, reader.encoder)
    result = fairness.measure(rows, read, reader.calibration, reader.encoder.record.id, options.seed)
    return result, fairness.table(result)


def _ablations(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import ablations
    from rag_service.models.encoders.load import load_extractor

    extractor = load_extractor(options.encoder, options.model or Path(settings.model_folder))
    result = ablations.measure(options.folder, extractor, options.seeds, options.seed, options.limit)
    return result, ablations.table(result)


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


def _sources(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import sources
    from rag_service.wiring import build_reader

    encoder = build_reader(settings).encoder
    found = sources.load(options.folder, encoder, options.limit, options.seed)
    result = sources.measure(found, encoder.record.id, options.seed)
    return result, sources.table(result)


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


def _trunks(_: Settings, options: argparse.Namespace) -> Result:
    from eval import trunks

    seeds = range(options.seed, options.seed + options.seeds)
    result = trunks.measure(options.folder, options.pretrained, tuple(seeds), options.steps)
    return result, trunks.table(result)


def _table(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import table
    from rag_service.wiring import build_reader

    encoder = build_reader(settings).encoder
    figures = table.gather(options.folder, options.runs, encoder.record.id, options.seed, main)
    result = table.measure(figures, encoder, Path(settings.model_folder) / encoder.record.file)
    return result, table.table(result)


_ENGINES: Final = ("qdrant_local", "faiss_hnsw", "faiss_flat", "numpy_exact")
_TASKS: dict[str, Callable[[Settings, argparse.Namespace], Result]] = {
    "labels": _labels,
    "calibration": _calibration,
    "recalibrate": _recalibrate,
    "drift": _drift,
    "retrieval": _retrieval,
    "consistency": _consistency,
    "evidence": _evidence,
    "labeler": _labeler,
    "faults": _faults,
    "grounding": _grounding,
    "gate": _gate,
    "ood": _ood,
    "speed": _speed,
    "lateral": _lateral,
    "projection": _projection,
    "bl-tta": _bl_tta,
    "axes": _axes,
    "concepts": _concepts,
    "sources": _sources,
    "shift": _shift,
    "fairness": _fairness,
    "ablations": _ablations,
    "trunks": _trunks,
    "table": _table,
}


def _fail(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


def _at_least_one(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _share(text: str) -> float:
    if not 0.0 < float(text) <= 1.0:
        raise ValueError(text)
    return float(text)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", type=Path, help="write the result to this file")
    common.add_argument("--seed", type=int, default=7, help="seed of the bootstrap and the random baseline")
    of_films = argparse.ArgumentParser(add_help=False)
    of_films.add_argument("folder", type=Path, help="laid out as Open-i or NIH ChestX-ray14")
    of_films.add_argument("--split", type=Split, choices=tuple(Split), help="only this split of the training program")
    parser = argparse.ArgumentParser(prog="python -m eval", description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True)
    labels = tasks.add_parser("labels", parents=[common, of_films], help="the 14 findings from films alone")
    labels.add_argument("--predictions", type=Path, help="write a CSV of probabilities: file, one column a label")
    labels.add_argument(
        "--raw-scores", type=Path, help="write a CSV for recalibrate: scores before calibration, and labels"
    )
    tasks.add_parser("calibration", parents=[common, of_films], help="calibrators, conformal sets, tiers")
    _add_recalibrate(tasks.add_parser("recalibrate", parents=[common], help="a site refits on its own labelled films"))
    moved = tasks.add_parser("drift", parents=[common], help="do a site's scores look like the calibration films'?")
    moved.add_argument("scores", type=Path, help="CSV of raw scores, as labels --raw-scores writes it")
    tasks.add_parser("retrieval", parents=[common, of_films], help="are near cases alike?")
    tasks.add_parser("consistency", parents=[common, of_films], help="do reports contradict their films?")
    cited = tasks.add_parser("evidence", parents=[common, of_films], help="what the relevance gate costs and gives")
    cited.add_argument("--store", help="folder of the embedded index, or the URL of a Qdrant server")
    tasks.add_parser("grounding", parents=[common, of_films], help="boxes against radiologists' boxes")
    tasks.add_parser("lateral", parents=[common, of_films], help="what a lateral adds; frontal told from lateral")
    tasks.add_parser("projection", parents=[common, of_films], help="is an AP film told from a PA one?")
    tasks.add_parser("bl-tta", parents=[common, of_films], help="how many samples in the box are worth their time")
    tasks.add_parser("concepts", parents=[common, of_films], help="sparse concepts: fidelity, names, steering")
    tasks.add_parser("axes", parents=[common, of_films], help="what each axis of the box tells, and its radius")
    sources = tasks.add_parser("sources", parents=[common], help="does the overlap of hulls say what transfers?")
    sources.add_argument("folder", type=Path, help="holds openi/, nih/, rocov2/, cohen/, jsrt/, paediatric/")
    sources.add_argument("--limit", type=_at_least_one, help="at most so many films of each split, drawn by seed")
    reports = tasks.add_parser("labeler", parents=[common], help="the labeler against MeSH tags and a second labeler")
    reports.add_argument("folder", type=Path, help="holds NLMCXR_reports.tgz")
    faults = tasks.add_parser("faults", parents=[common], help="is anything lost when what writes an index is killed?")
    faults.add_argument("what", choices=("kills",))
    faults.add_argument("--points", type=_at_least_one, default=50, help="how often it is killed")
    gate = tasks.add_parser("gate", parents=[common], help="which pictures of a folder are turned away")
    gate.add_argument("folder", type=Path)
    gate.add_argument("--projection", choices=("frontal", "lateral"), help="of an Open-i folder, only these")
    ood = tasks.add_parser("ood", parents=[common], help="usual frontals told from outliers, by kind and by score")
    ood.add_argument("folder", type=Path, help="holds openi/, nih/, not_chest/ ..., or pictures and labels.csv")
    ood.add_argument("--limit", type=_at_least_one, help="at most so many pictures of each set, drawn by seed")
    _add_speed(tasks.add_parser("speed", parents=[common], help="time and memory of the running service"), common)
    tasks.add_parser("fairness", parents=[common, of_films], help="groups of patients compared; what the latent leaks")
    _add_shift(tasks.add_parser("shift", parents=[common, of_films], help="device, finding and population changed"))
    _add_ablations(tasks.add_parser("ablations", parents=[common], help="what each part of the box head is worth"))
    _add_trunks(tasks.add_parser("trunks", parents=[common], help="short training runs: pretraining, sources, trunk"))
    whole = tasks.add_parser(
        "table", parents=[common], help="the published table beside ours; measures what is missing"
    )
    whole.add_argument("folder", type=Path, help="holds openi/, nih/, not_chest/, ...")
    whole.add_argument("--runs", type=Path, default=Path("build/figures"), help="JSON of the single measurements")
    return parser


def _add_speed(speed: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    speed.add_argument(
        "--repeats", type=_at_least_one, default=20, help="drafts, and searches by words, that are timed"
    )
    speed.add_argument("--store", help="folder of the embedded index, or the URL of a Qdrant server")
    parts = speed.add_subparsers(dest="part", help="instead of drafts")
    store = parts.add_parser("store", parents=[common], help="the store at any size, beside other engines")
    store.add_argument("--cases", type=_at_least_one, required=True, help="synthetic cases to fill it with")
    store.add_argument("--folder", type=Path, help="where everything is written; a temporary folder by default")
    store.add_argument("--keep", action="store_true", help="leave the folder: the next run starts from what it holds")
    store.add_argument(
        "--baselines", nargs="*", choices=_ENGINES, default=_ENGINES, help="other engines to measure beside it"
    )


def _add_recalibrate(recalibrate: argparse.ArgumentParser) -> None:
    recalibrate.add_argument("scores", type=Path, help="CSV of raw scores and labels, as labels --raw-scores writes it")
    recalibrate.add_argument(
        "--out", type=Path, default=Path("build/site"), help="folder to write site-calibration.json in"
    )
    wish = recalibrate.add_mutually_exclusive_group()
    wish.add_argument("--sensitivity", type=_share, help="operating points at this sensitivity, instead of best F1")
    wish.add_argument("--specificity", type=_share, help="operating points at this specificity, instead of best F1")


def _add_shift(shift: argparse.ArgumentParser) -> None:
    shift.add_argument("--other", type=Path, help="a folder of another source, for the population shift")
    shift.add_argument("--limit", type=_at_least_one, help="at most so many films, drawn by seed")
    shift.add_argument("--only", choices=("acquisition", "manifestation", "population", "markers"))
    shift.add_argument("--weak", type=Path, help="folder of a weaker model, measured beside")
    shift.add_argument("--drafts", type=_at_least_one, default=0, help="also draft so many films before and after")
    shift.add_argument("--store", help="folder of the embedded index, or the URL of a Qdrant server")


def _add_ablations(ablations: argparse.ArgumentParser) -> None:
    ablations.add_argument("folder", type=Path, help="holds openi/, nih/, cohen/")
    ablations.add_argument(
        "--seeds", type=_at_least_one, default=5, help="heads of each variant: --seed, --seed + 1, ..."
    )
    ablations.add_argument("--limit", type=_at_least_one, help="at most so many films of each source and split")
    ablations.add_argument("--encoder", default="box-latent", help="name of a recorded encoder; ours by default")
    ablations.add_argument("--model", type=Path, help="folder of that encoder; ours by default")


def _add_trunks(trunks: argparse.ArgumentParser) -> None:
    trunks.add_argument("folder", type=Path, help="holds openi/, nih/, ...")
    trunks.add_argument("--pretrained", type=Path, required=True, help="checkpoint of rag_service.training pretrain")
    trunks.add_argument("--seeds", type=_at_least_one, default=1, help="runs of each variant: --seed, --seed + 1, ...")
    trunks.add_argument("--steps", type=_at_least_one, default=200, help="of each run")


if __name__ == "__main__":
    sys.exit(main())
