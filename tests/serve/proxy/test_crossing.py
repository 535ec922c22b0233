"""What the router costs is measured by wrong requests, and said to be none of it where they are answered otherwise."""

from __future__ import annotations

import asyncio

import pytest

from serve.errors import EngineError
from serve.proxy.crossing import Crossing, crossing
from tests.serve.proxy.scripted import Node, answer, play, site


def test_half_of_the_difference_is_the_way_to_a_node() -> None:
    assert Crossing(direct_us=100.0, routed_us=180.0, cpu_us=50.0).network_us == 40.0
    assert Crossing(direct_us=100.0, routed_us=90.0, cpu_us=50.0).network_us == 0.0


@pytest.mark.parametrize("status", [400, 200])
def test_both_ways_are_asked_the_same(status: int) -> None:
    async def story() -> None:
        node = await Node(lambda _: answer(status)).start()
        it = await site(node)
        urls = f"http://127.0.0.1:{it.front.port}", f"http://127.0.0.1:{node.port}"
        asked = asyncio.to_thread(crossing, urls[0], 0, urls[1], "m", 5)
        if status != 400:
            with pytest.raises(EngineError, match="a wrong request was answered 200, not 400"):
                await asked
            return
        found = await asked
        assert found.direct_us > 0 and found.routed_us > 0
        assert len(node.seen) == 2 * (50 + 5) and len({seen.body for seen in node.seen}) == 1

    play(story)
