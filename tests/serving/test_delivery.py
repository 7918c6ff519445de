"""What becomes of the other prompts of a request when one of them fails."""

import asyncio
from concurrent.futures import Future

import pytest

from sea_ray.serving.delivery import gathered


class Client:
    """One who stays."""

    async def receive(self):
        await asyncio.sleep(60)


def test_a_request_that_fails_in_part_gives_back_the_places_of_its_other_prompts():
    async def ask():
        futures = [Future(), Future()]
        futures[0].set_exception(ValueError("out of memory"))
        with pytest.raises(ValueError, match="out of memory"):
            await gathered(futures, Client(), 30)
        return futures[1].cancelled()

    assert asyncio.run(ask())
