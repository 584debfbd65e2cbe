"""Check the store while nothing is written; damage stops intake and is reported at once."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from swarm_collector.ingest.batch_intake import BatchIntake
from swarm_collector.ingest.store_client import StoreClient
from swarm_protocol.text import safe
from swarm_storage.errors import Closed, Corrupt, StoreError

LOOK_S: Final = 1.0
_log = logging.getLogger("swarm_collector.store")


class StoreWatch:
    def __init__(self, store_client: StoreClient, intake: BatchIntake) -> None:
        self._store_client = store_client
        self._intake = intake
        self.unchecked: str | None = None  # why the last check could not run

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            self._intake.noticed(self._store_client.condition)
            if self._store_client.check_due:
                await self._check()
            await asyncio.sleep(LOOK_S)

    async def _check(self) -> None:
        unchecked = None
        try:
            await self._store_client.check()
        except Closed:
            return  # the collector is stopping
        except Corrupt:
            self._intake.noticed(self._store_client.condition)
        except StoreError as error:
            unchecked = safe(str(error))
        if unchecked is not None and self.unchecked is None:
            _log.warning("the store could not be checked: %s", unchecked)
        self.unchecked = unchecked
