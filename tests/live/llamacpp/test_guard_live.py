"""The guard with the real local engine as its judge."""

import pytest
from support.gateways import StartGateway
from support.guard_check import assert_guards

from gateway.settings import LocalEngine, Settings

pytestmark = [pytest.mark.engine, pytest.mark.heavy]


@pytest.mark.usefixtures("weights")
async def test_the_local_engine_judges(start: StartGateway):
    await assert_guards(start, Settings(local=LocalEngine(threads=1)))
