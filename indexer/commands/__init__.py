"""Commands of `python -m indexer` on an index that exists: kept, checked, moved, sized."""

from __future__ import annotations

from typing import Final

from indexer.commands.archives import EXPORT, IMPORT
from indexer.commands.checks import OPTIMIZE, STATS, VERIFY
from indexer.commands.command import Command
from indexer.commands.migrate import MIGRATE
from indexer.commands.plan import PLAN
from indexer.commands.push import PUSH
from indexer.commands.tenancy import AUDIT, RESTORE, WITHDRAW

OPERATIONS: Final[tuple[Command, ...]] = (
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
