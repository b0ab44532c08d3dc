"""python -m rag_service.training TASK --data DIR: trains, calibrates and packs what the service ships."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from knowledge_base.rerank import FEATURES
from rag_service.calibration import load_calibration
from rag_service.datasets import openi
from rag_service.models import text
from rag_service.models.catalogue import load_record
from rag_service.models.encoder import load_encoder
from rag_service.models.starter import load_starter
from rag_service.models.text import load_text_encoder
from rag_service.relevance import FILE as RELEVANCE
from rag_service.training import heads
from rag_service.training.calibrate import CorpusReader
from rag_service.training.card import write_card
from rag_service.training.changes import make_changes
from rag_service.training.complete import complete
from rag_service.training.concepts import make_concepts
from rag_service.training.corpus import Corpus, build
from rag_service.training.decoder import DecoderPlan, make_decoder
from rag_service.training.evidence_gate import fit_relevance
from rag_service.training.export import export
from rag_service.training.hearts import make_segmenter
from rag_service.training.indication import make_indication
from rag_service.training.loop import CHECKPOINT, PLANS, Plan, Trainer, text_vectors
from rag_service.training.pretrain import Pretrainer, PretrainPlan
from rag_service.training.region_fit import gather, make_region_queries
from rag_service.training.region_queries import QueryPlan
from rag_service.training.reranker import make_reranker
from rag_service.training.segmenter import SegmenterPlan
from rag_service.training.sparse_autoencoder import Recipe


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] in (["record"], ["box-head"]):
        return heads.main(arguments)
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    return _TASKS[options.task](options)


def _pretrain(options: argparse.Namespace) -> int:
    corpus, plan = _corpus(options), PretrainPlan()
    seed = plan.seed if options.seed is None else options.seed
    plan = replace(plan, steps=options.steps or plan.steps, seed=seed)
    folder = _folder(options, "pretrain", plan.seed)
    Pretrainer(corpus, plan, _plan(options).architecture(corpus.tag_names), folder).run()
    return 0


def _encoder(options: argparse.Namespace) -> int:
    corpus, plan = _corpus(options), _plan(options)
    trainer = Trainer(corpus, _texts(corpus, options), plan, _folder(options, "encoder", plan.seed))
    if options.initial:
        trainer.start_from(options.initial)
    trainer.run()
    return 0


def _pack(options: argparse.Namespace) -> int:
    corpus, plan = _corpus(options), _plan(options)
    checkpoint = _folder(options, "encoder", plan.seed) / CHECKPOINT
    record = export(checkpoint, plan.architecture(corpus.tag_names), options.version, options.out, options.blend)
    print(f"{record.id}  sha256 {record.sha256}")
    complete(CorpusReader(load_encoder(options.out), corpus), _texts(corpus, options), options.out)
    _evidence_gate(options)
    _reranker(options)
    return _make_concepts(options, Recipe())


def _evidence_gate(options: argparse.Namespace) -> int:
    cases = load_starter(options.out, load_record(options.out).id, text.NAME)
    gate = fit_relevance(cases, openi.films(options.data / "openi"))
    if gate is None:
        (options.out / RELEVANCE).unlink(missing_ok=True)
        print("too few calibration films to choose the relevance gate: every case passes")
        return 0
    gate.save(options.out)
    least = ", ".join(f"{polarity} from {overlap:.2f}" for polarity, overlap in gate.least.items())
    print(f"a case is evidence by its box overlap: {least} ({gate.sample})")
    return 0


def _reranker(options: argparse.Namespace) -> int:
    found = make_reranker(options.data, options.out)
    print(*found.lines, sep="\n")
    weights = ", ".join(f"{n} {w:.3g}" for n, w in zip(FEATURES, found.reranker.weight.tolist(), strict=True))
    print(f"re-ranker, ridge {found.ridge}: {weights}")
    return 0


def _indication(options: argparse.Namespace) -> int:
    reader = CorpusReader(load_encoder(options.out), _corpus(options))
    print(*make_indication(reader, options.data, options.out), sep="\n")
    return 0


def _concepts(options: argparse.Namespace) -> int:
    recipe = Recipe()
    seed = recipe.seed if options.seed is None else options.seed
    return _make_concepts(options, replace(recipe, steps=options.steps or recipe.steps, seed=seed))


def _make_concepts(options: argparse.Namespace, recipe: Recipe) -> int:
    names = make_concepts(options.data, options.out, load_encoder(options.out), options.work / "cache", recipe)
    named = [n for n in names if n.named]
    print(f"{len(names)} concepts, {len(named)} named after {len({n.term for n in named})} terms")
    return 0


def _segmenter(options: argparse.Namespace) -> int:
    corpus, plan = _corpus(options), SegmenterPlan()
    seed = plan.seed if options.seed is None else options.seed
    plan = replace(plan, steps=options.steps or plan.steps, seed=seed)
    folder = _folder(options, "segmenter", plan.seed)
    segmenter, limits = make_segmenter(options.data, corpus, options.out, plan, folder, options.version)
    print(f"{segmenter.record.id}  {segmenter.record.sample}")
    if limits is None:
        print("too few calibration films to choose limits of the cardiothoracic ratio: it contradicts nothing")
        return 0
    print(f"clearly normal below {limits.normal_below:.3f}, enlarged from {limits.enlarged_from:.3f} ({limits.sample})")
    return 0


def _decoder(options: argparse.Namespace) -> int:
    plan = DecoderPlan()
    seed = plan.seed if options.seed is None else options.seed
    plan = replace(plan, steps=options.steps or plan.steps, seed=seed)
    folder = _folder(options, "decoder", plan.seed)
    corpus = _corpus(options)
    print(*make_decoder(options.data, options.out, corpus, plan, folder, options.version, options.initial), sep="\n")
    return 0


def _card(options: argparse.Namespace) -> int:
    record = load_record(options.out)
    calibration = load_calibration(options.out, record.id)
    write_card(options.out, record, calibration, _corpus(options), _plan(options), options.figures, options.note)
    return 0


def _region_queries(options: argparse.Namespace) -> int:
    plan, encoder = QueryPlan(), load_encoder(options.out)
    seed = plan.seed if options.seed is None else options.seed
    plan = replace(plan, steps=options.steps or plan.steps, seed=seed)
    made = gather(options.data, _corpus(options), encoder, options.work / "cache")
    print(*make_region_queries(made, encoder, load_text_encoder(), options.out, plan), sep="\n")
    return 0


def _change(options: argparse.Namespace) -> int:
    encoder = load_encoder(options.out)
    rule = make_changes(options.data, encoder, load_calibration(options.out, encoder.record.id))
    rule.save(options.out)
    for finding, entry in rule.findings.items():
        told = (
            "is not told"
            if entry.changed is None
            else f"is told from {entry.changed:.2f}, none up to {entry.still:.2f}"
        )
        auroc = "" if entry.auroc is None else f", AUROC {entry.auroc:.3f}"
        print(f"{finding}: change {told} ({entry.pairs} changed pairs{auroc})")
    print(rule.sample)
    return 0


_TASKS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "pretrain": _pretrain,
    "encoder": _encoder,
    "pack": _pack,
    "concepts": _concepts,
    "evidence-gate": _evidence_gate,
    "reranker": _reranker,
    "indication": _indication,
    "segmenter": _segmenter,
    "region-queries": _region_queries,
    "decoder": _decoder,
    "change": _change,
    "card": _card,
}


def _corpus(options: argparse.Namespace) -> Corpus:
    return build(options.data, options.work / "cache")


def _texts(corpus: Corpus, options: argparse.Namespace) -> NDArray[np.float32]:
    return text_vectors(corpus.texts, load_text_encoder().encode, options.work / "cache")


def _folder(options: argparse.Namespace, task: str, seed: int) -> Path:
    folder: Path = options.work / f"{task}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _plan(options: argparse.Namespace) -> Plan:
    plan = PLANS[options.plan]
    return replace(plan, steps=options.steps or plan.steps, seed=plan.seed if options.seed is None else options.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rag_service.training",
        description=__doc__,
        epilog="Over another encoder: `record` and `box-head`, which have options of their own.",
    )
    parser.add_argument(
        "task",
        choices=tuple(_TASKS),
        help="pretrain the trunk on films alone; train the network; export, calibrate and pack all that ships; "
        "train and name the sparse concepts again; choose the relevance gate again; fit the re-ranker again; "
        "learn what indications tell; train the segmenter of lungs and heart; train region queries; "
        "train the grounded decoder; fit what counts as a change between two films; write the card",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder holding openi/, nih/, ...")
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="checkpoints, cache and log")
    parser.add_argument("--out", type=Path, default=Path("rag_service/weights"), help="where pack writes")
    parser.add_argument(
        "--blend", type=Path, nargs="*", default=[], help="further checkpoints to average with, for pack"
    )
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="JSON of eval runs, for the card")
    parser.add_argument("--note", default="", help="a sentence on how the run went, for the card")
    parser.add_argument("--version", default="1", help="version of the packed model")
    parser.add_argument("--plan", choices=tuple(PLANS), default="scratch", help="how long and how hard to train")
    parser.add_argument("--initial", type=Path, help="checkpoint to begin with: a pretrained trunk, or an earlier leg")
    parser.add_argument("--steps", type=int, help="instead of the plan's own")
    parser.add_argument("--seed", type=int, help="instead of the plan's own")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves the default")
    return parser


if __name__ == "__main__":
    sys.exit(main())
