"""python -m indexer withdraw | restore | audit: what may be seen no longer, and who saw what."""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from functools import partial
from pathlib import Path
from typing import Final

from indexer.commands.command import Command, held_store, say
from knowledge_base.audit_log import check_chain, read_events
from knowledge_base.errors import CollectionMissing, DamagedRecordError
from knowledge_base.records import case_id
from knowledge_base.schema import CASES
from knowledge_base.store import Filter, HasId, Scope
from rag_service.settings import Settings

DAMAGED: Final = 3


def _mark(withdrawn: bool, settings: Settings, options: argparse.Namespace) -> int:
    """Withdraw a study or take that back, whichever models made the index; it need not be there yet."""
    case = case_id(options.source, options.study, settings.tenant)
    with held_store(settings) as store:
        schema, manifest = store.schema(CASES), store.manifest(CASES)
        if schema is None or manifest is None:
            raise CollectionMissing(CASES)
        store.open(schema, manifest)
        store.set_withdrawn(CASES, [case], settings.tenant, withdrawn)
        own = Scope(settings.tenant, also_public=False)
        indexed = store.count(CASES, own, Filter(must=(HasId((case,)),))) == 1
    say({"case": str(case), "withdrawn": withdrawn, "indexed": indexed}, options)
    return 0


def _audit(settings: Settings, options: argparse.Namespace) -> int:
    """Follow the chain, or show its last events; exit code 3 when the chain is broken."""
    folder = Path(settings.audit_folder)
    if options.what == "tail":
        return _tail(folder, options.events)
    found = check_chain(folder, options.expect)
    say({"events": found.events, "head": found.head.digest, "fault": found.fault}, options)
    return DAMAGED if found.fault else 0


def _tail(folder: Path, count: int) -> int:
    try:
        last = deque(read_events(folder), count)
    except ValueError as error:
        raise DamagedRecordError("the audit log is damaged: run `python -m indexer audit verify`") from error
    sys.stdout.writelines(json.dumps(event) + "\n" for event, _ in last)
    return 0


def _study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="as it was indexed, e.g. openi")
    parser.add_argument("study", help="its id within the source")


def _what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("verify", "tail"))
    parser.add_argument("--expect", metavar="SHA256", help="a head noted earlier: it must still be in the log")
    parser.add_argument("--events", type=_at_least_one, default=20, help="how many events tail shows")


def _at_least_one(given: str) -> int:
    if (count := int(given)) < 1:
        raise ValueError
    return count


WITHDRAW: Final = Command("withdraw", "a study is gone from every answer, and stays so", partial(_mark, True), _study)
RESTORE: Final = Command("restore", "take a withdrawal back", partial(_mark, False), _study)
AUDIT: Final = Command("audit", "the log of reads that left their tenant's index", _audit, _what)
