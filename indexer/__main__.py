"""python -m indexer: fill, check and describe the knowledge base."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import Final

from indexer.commands import COMMANDS
from knowledge_base.errors import BadArchive, DamagedRecordError, ManifestMismatch, StoreError, StoreInUse
from rag_service import settings as environment
from rag_service.datasets.films import DatasetError
from rag_service.errors import ServiceError
from rag_service.settings import Settings, SettingsError

_COMMANDS: Final[Mapping[str, Callable[[Settings, argparse.Namespace], int]]] = {c.name: c.run for c in COMMANDS}
IN_USE = 4
"""Exit code when another process holds the embedded index."""


def main(arguments: list[str] | None = None) -> int:
    """Command line. Exit codes: 0 ok, 1 failed, 2 usage, 3 data damaged, 4 index in use, 130 and 143 stopped."""
    options = _parser().parse_args(arguments)
    try:
        settings = environment.override(environment.load(), store=options.store, tenant=options.tenant)
        return _COMMANDS[options.command](settings, options)
    except StoreInUse as error:
        return _fail(error, IN_USE)
    except (BadArchive, DamagedRecordError, ManifestMismatch, ServiceError) as error:
        return _fail(error, getattr(error, "exit_code", 3))
    except (SettingsError, DatasetError) as error:
        return _fail(error, 2)
    except StoreError as error:
        return _fail(error, 1)


def _fail(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", help="folder of the embedded index, or the URL of a Qdrant server")
    common.add_argument("--tenant", help="whose cases they are (public)")
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument("--quiet", action="store_true", help="no progress bar")
    parser = argparse.ArgumentParser(prog="python -m indexer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.configure(commands.add_parser(command.name, parents=[common], help=command.help))
    return parser


if __name__ == "__main__":
    sys.exit(main())
