from collections.abc import AsyncIterator

import pytest

from controllers.conftest import cluster, operator, user
from controllers.operator_under_test import OperatorUnderTest
from web.receiver_under_test import ReceiverUnderTest

__all__ = ["cluster", "operator", "receiver", "user"]


@pytest.fixture
async def receiver(operator: OperatorUnderTest) -> AsyncIterator[ReceiverUnderTest]:
    async with ReceiverUnderTest(operator) as receiver:
        yield receiver
