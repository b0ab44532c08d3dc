"""python -m indexer push: an index brought to a server."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import Final

from indexer.commands.command import Command, Running, held_store, opened_index, say, watch
from knowledge_base.push import Push, Pushed
from rag_service.settings import Settings, SettingsError
from rag_service.wiring import open_collections


def _push(settings: Settings, options: argparse.Namespace) -> int:
    key = os.environ.get(options.api_key_env) if options.api_key_env else settings.store_api_key
    if options.api_key_env and not key:
        raise SettingsError(f"the variable {options.api_key_env} is not set")
    target = replace(settings, store=options.to, store_api_key=key)
    if not target.on_server:
        raise SettingsError("--to takes the URL of a Qdrant server")
    plan, pushed = Running.of(settings).plan, Pushed()
    schemas = (plan.cases, plan.guidelines)
    with opened_index(settings, plan) as source, held_store(target) as server:
        open_collections(server, plan)
        push = Push(source, server)
        total = sum(sum(source.tenants(s.name).values()) for s in schemas)
        for schema in schemas:
            watch(push.send(schema, pushed), total, "records sent", options)
        push.withdraw()
        for schema in schemas:
            watch(push.verify(schema, pushed), total, "records checked", options)
    say({"sent": pushed.sent, "present": pushed.present, "verified": pushed.verified}, options)
    return 0


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", required=True, metavar="URL", help="the Qdrant server")
    parser.add_argument("--api-key-env", metavar="NAME", help="the variable that holds the server's key")


PUSH: Final = Command("push", "bring the index to a Qdrant server; again to go on", _push, _configure)
