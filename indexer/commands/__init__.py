"""The commands of `python -m indexer`: an index filled, kept, checked, moved, sized."""

from __future__ import annotations

from typing import Final

from indexer.commands.add import ADD
from indexer.commands.archives import EXPORT, IMPORT
from indexer.commands.checks import OPTIMIZE, STATS, VERIFY
from indexer.commands.command import Command
from indexer.commands.migrate import MIGRATE
from indexer.commands.plan import PLAN
from indexer.commands.push import PUSH
from indexer.commands.quarantine import QUARANTINE
from indexer.commands.starter import IDS, STARTER
from indexer.commands.tenancy import AUDIT, RESTORE, WITHDRAW

COMMANDS: Final[tuple[Command, ...]] = (
    ADD,
    STARTER,
    QUARANTINE,
    IDS,
    VERIFY,
    STATS,
    EXPORT,
    IMPORT,
    PUSH,
    MIGRATE,
    OPTIMIZE,
    PLAN,
    WITHDRAW,
    RESTORE,
    AUDIT,
)
