"""The command line of the measurements: arguments in, a table and a JSON file out."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final

from eval.commands import explanations, films, memory, models, prompts, reports, structures
from knowledge_base.errors import StoreError
from rag_service import settings as environment
from rag_service.datasets.films import DatasetError
from rag_service.errors import ServiceError
from rag_service.settings import SettingsError

ABOUT: Final = "Measure the service. Every number it prints carries its counts, seed and signature."
COMMANDS: Final = {
    c.name: c for part in (explanations, films, memory, models, prompts, reports, structures) for c in part.COMMANDS
}


def main(arguments: list[str] | None = None) -> int:
    """Run a task. Exit codes: 0 ok, 1 failed, 2 usage (also a folder that is not laid out as it should be), 3 damaged."""
    options = parser().parse_args(arguments)
    try:
        settings = environment.load()
        result, table = COMMANDS[options.task].run(settings, options)
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


def parser() -> argparse.ArgumentParser:
    """The parser of all tasks."""
    found = argparse.ArgumentParser(prog="python -m eval", description=ABOUT)
    tasks = found.add_subparsers(dest="task", required=True)
    for command in COMMANDS.values():
        command.add(tasks)
    return found


def _fail(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code
