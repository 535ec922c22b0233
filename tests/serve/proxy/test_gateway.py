"""The router over HTTP, in front of nodes that a test scripts: what passes, what is retried, who is in rotation."""

from __future__ import annotations

import asyncio
import json

import pytest

from serve.proxy.gateway import needs_of
from serve.router import Needs
from tests.serve.proxy.scripted import Message, Node, answer, play, read, site

RETRY = {"max": 2, "backoff": "0s"}
FULL = answer(503, b'{"error": "full"}', "Retry-After: 0", "Retry-After-Ms: 10")


def test_requests_and_answers_pass_untouched_but_for_what_is_between_two_hops() -> None:
    body = b'{"id":"7"}\x00\x01\xff'

    async def story() -> None:
        node = await Node(lambda _: answer(200, body, "X-Of-Node: 1", "Keep-Alive: 5")).start()
        it = await site(node)
        client = await it.client()
        fields = ("Inference-Header-Content-Length: 10", "X-Of-Client: 2", "TE: gzip", "Connection: keep-alive")
        got = await client.ask("/v2/models/m/infer?a=b", body, *fields)
        seen = node.seen[0]
        assert (seen.first, seen.body) == ("POST /v2/models/m/infer?a=b HTTP/1.1", body)
        assert seen.fields["inference-header-content-length"] == "10" and seen.fields["x-of-client"] == "2"
        assert "te" not in seen.fields and "connection" not in seen.fields
        assert seen.fields["host"] == f"127.0.0.1:{node.port}"
        assert (got.status, got.body, got.fields["x-of-node"]) == (200, body, "1")
        assert "keep-alive" not in got.fields

    play(story)


def test_one_connection_is_enough_for_requests_that_follow_each_other() -> None:
    async def story() -> None:
        node = await Node().start()
        it = await site(node)
        client = await it.client()
        for _ in range(20):
            assert (await client.infer()).status == 200
        assert node.connections == len(it.gateway.upstreams[0].connections) == 1

    play(story)


def test_pipelined_requests_are_answered_in_their_order_whichever_node_is_first() -> None:
    async def story() -> None:
        release = asyncio.Event()

        async def slowly() -> bytes:
            await release.wait()
            return answer(200, b"slow")

        nodes = await Node(lambda _: slowly()).start(), await Node(lambda _: answer(200, b"fast")).start()
        it = await site(*nodes)
        client = await it.client()
        client.send("/v2/models/m/infer", b"{}")
        client.send("/v2/models/m/infer", b"{}")
        await it.until(lambda: it.gateway.links["m"].router.counts[1].outcomes[0] == 1)
        release.set()
        bodies = []
        for _ in range(2):
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            bodies.append(await client.reader.readexactly(4))
        assert bodies == [b"slow", b"fast"]

    play(story)


@pytest.mark.parametrize("said", [FULL, None], ids=["full", "lost"])
def test_what_one_node_does_not_take_another_does(said: bytes | None) -> None:
    async def story() -> None:
        nodes = await Node(lambda _: said).start(), await Node().start()
        it = await site(*nodes, retry=RETRY)
        client = await it.client()
        assert [(await client.infer()).status for _ in range(4)] == [200] * 4
        assert len(nodes[0].seen) >= 1 and len(nodes[1].seen) == 4

    play(story)


def test_without_retries_the_nodes_answer_or_its_loss_is_the_clients() -> None:
    async def story() -> None:
        nodes = await Node(lambda _: FULL).start(), await Node(lambda _: None).start()
        it = await site(*nodes)
        client = await it.client()
        full, lost = await client.infer(), await client.infer()
        assert (full.status, full.json, full.fields["retry-after-ms"]) == (503, {"error": "full"}, "10")
        assert (lost.status, lost.json) == (502, {"error": "the node that had the request went away"})
        assert [counts.outcomes[2] for counts in it.gateway.links["m"].router.counts] == [1, 0]
        assert [counts.outcomes[6] for counts in it.gateway.links["m"].router.counts] == [0, 1]

    play(story)


def test_a_node_that_cannot_be_reached_leaves_at_once_and_comes_back_when_it_is_ready() -> None:
    async def story() -> None:
        nodes = await Node().start(), await Node().start()
        it = await site(*nodes, retry=RETRY)
        client = await it.client()
        await nodes[0].stop()
        for upstream in it.gateway.upstreams:
            upstream.close()  # so that a connection has to be opened
        assert [(await client.infer()).status for _ in range(4)] == [200] * 4
        await it.rotation(1)
        await nodes[0].start()
        await it.rotation(0, 1)

    play(story)


def test_a_client_that_hangs_up_is_heard_by_the_node() -> None:
    async def story() -> None:
        async def never() -> bytes:
            await asyncio.Event().wait()
            return b""

        node = await Node(lambda _: never()).start()
        it = await site(node)
        client = await it.client()
        client.send("/v2/models/m/infer", b"{}")
        await it.until(lambda: len(node.seen) == 1)
        client.writer.close()
        await it.until(lambda: node.hung_up == 1)
        router = it.gateway.links["m"].router
        assert router.present == 0 and router.rotation == (0,)

    play(story)


def test_what_is_late_is_asked_of_another_node_and_the_slower_one_is_called_back() -> None:
    async def story() -> None:
        async def never() -> bytes:
            await asyncio.Event().wait()
            return b""

        nodes = await Node(lambda _: never()).start(), await Node().start()
        it = await site(*nodes, hedge={"after": "5ms"})
        assert (await (await it.client()).infer()).status == 200
        await it.until(lambda: nodes[0].hung_up == 1)
        assert [len(node.seen) for node in nodes] == [1, 1]
        router = it.gateway.links["m"].router
        assert router.present == 0 and router.rotation == (0, 1) and router.counts[1].hedges == 1

    play(story)


def test_a_node_that_says_it_drains_leaves_after_the_propagation() -> None:
    async def story() -> None:
        draining = answer(503, b'{"error": "bye"}', "Forebay-Draining: 1")
        nodes = await Node(lambda _: draining).start(), await Node().start()
        it = await site(*nodes, retry=RETRY, probe="10s")
        client = await it.client()
        assert (await client.infer()).status == 200
        await it.rotation(1)
        assert it.gateway.links["m"].router.counts[0].outcomes[3] >= 1

    play(story)


def test_a_node_that_is_ready_again_before_the_propagation_has_passed_stays() -> None:
    async def story() -> None:
        node = await Node().start()
        it = await site(node, propagation="10s")
        node.ready = False
        await it.until(lambda: it.gateway.watches[0]._leaving is not None)
        assert it.gateway.links["m"].router.rotation == (0,)
        node.ready = True
        await it.until(lambda: it.gateway.watches[0]._leaving is None)
        assert it.gateway.links["m"].router.rotation == (0,)

    play(story)


def test_without_a_node_requests_wait_for_one_by_priority_and_the_rest_is_refused() -> None:
    async def story() -> None:
        node = await Node(ready=False).start()
        it = await site(node)
        clients = [await it.client() for _ in range(3)]
        waiting = it.gateway.links["m"].router.buffered
        for number, priority in enumerate((2, 1, 1)):
            request = {"id": f"{number}", "inputs": [{"shape": [1, 4]}], "parameters": {"priority": priority}}
            clients[number].send("/v2/models/m/infer", json.dumps(request).encode())
            expected = min(number + 1, 2)
            await it.until(lambda expected=expected: len(waiting) == expected)
        refused = await read(clients[2].reader)
        assert (refused.status, refused.json) == (503, {"error": "no node is ready; retry later"})
        assert refused.fields["retry-after-ms"] == "10"
        node.ready = True
        assert [(await read(client.reader)).status for client in clients[:2]] == [200, 200]
        assert [seen.json["id"] for seen in node.seen] == ["1", "0"]

    play(story)


def test_a_drain_answers_what_is_inside_and_refuses_what_comes() -> None:
    async def story() -> None:
        release = asyncio.Event()

        async def slowly() -> bytes:
            await release.wait()
            return answer()

        node = await Node(lambda _: slowly()).start()
        it = await site(node)
        inside, later = await it.client(), await it.client()
        inside.send("/v2/models/m/infer", b"{}")
        await it.until(lambda: len(node.seen) == 1)
        it.gateway.drain()
        refused = await later.infer()
        assert (refused.status, refused.fields["forebay-draining"]) == (503, "1")
        release.set()
        await it.gateway.drained()
        assert (await read(inside.reader)).status == 200

    play(story)


def test_nodes_are_asked_for_their_load_only_where_the_policy_goes_by_it() -> None:
    def loaded(requests: int) -> Node:
        told = f"endpoint-load-metrics: TEXT named_metrics.ongoing_requests={requests}, "
        return Node(lambda _: answer(200, b"{}", told + "named_metrics.ongoing_rows=9, named_metrics.replicas_up=1"))

    async def story() -> None:
        nodes = await loaded(5).start(), await loaded(0).start()
        it = await site(*nodes, policy="shortest_queue")
        client = await it.client()
        for _ in range(3):
            got = await client.infer()
            assert "endpoint-load-metrics" not in got.fields
        assert [len(node.seen) for node in nodes] == [1, 2]
        assert nodes[0].seen[0].fields["endpoint-load-metrics-format"] == "TEXT"
        got = await client.ask("/v2/models/m/infer", b"{}", "Endpoint-Load-Metrics-Format: text")
        assert "ongoing_requests=0" in got.fields["endpoint-load-metrics"]
        other = await site(*nodes)
        await (await other.client()).infer()
        assert "endpoint-load-metrics-format" not in nodes[0].seen[-1].fields

    play(story)


def test_what_has_one_key_goes_to_one_node_and_keys_are_spread() -> None:
    async def story() -> None:
        nodes = [await Node().start() for _ in range(3)]
        it = await site(*nodes, policy="affinity")
        client = await it.client()
        homes = set()
        for key in range(12):
            before = [len(node.seen) for node in nodes]
            for _ in range(3):
                await client.ask("/v2/models/m/infer", b"{}", f"Forebay-Affinity: user-{key}")
            took = [len(node.seen) - count for node, count in zip(nodes, before, strict=True)]
            assert sorted(took) == [0, 0, 3]
            homes.add(took.index(3))
        assert homes == {0, 1, 2} and nodes[0].seen[0].fields["forebay-affinity"].startswith("user-")

    play(story)


def stats(_: Message) -> bytes:
    batch = {"batch_size": 4, "compute_infer": {"count": 2, "ns": 7}}
    entry = {
        "name": "m",
        "version": "1",
        "last_inference": 5,
        "inference_count": 8,
        "inference_stats": {"success": {"count": 3, "ns": 9}},
        "batch_stats": [batch],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": 10}],
    }
    return answer(200, json.dumps({"model_stats": [entry]}).encode())


def test_statistics_are_the_sums_of_the_nodes() -> None:
    async def story() -> None:
        it = await site(await Node(stats).start(), await Node(stats).start())
        got = (await (await it.client()).ask("/v2/models/m/stats")).json["model_stats"]
        assert got == [
            {
                "name": "m",
                "version": "1",
                "last_inference": 5,
                "inference_count": 16,
                "inference_stats": {"success": {"count": 6, "ns": 18}},
                "batch_stats": [{"batch_size": 4, "compute_infer": {"count": 4, "ns": 14}}],
                "memory_usage": [{"type": "CPU", "id": 0, "byte_size": 20}],
            }
        ]

    play(story)


def test_pages_say_what_the_router_and_its_nodes_are() -> None:
    async def story() -> None:
        node = await Node(lambda m: answer(200, b'{"name": "m"}')).start()
        it = await site(node)
        client = await it.client()
        assert (await client.ask("/v2")).json["name"] == "forebay"
        assert (await client.ask("/v2/health/live")).json == {"live": True}
        assert (await client.ask("/v2/health/ready")).json == {"ready": True}
        assert (await client.ask("/v2/models/m/ready")).json == {"name": "m", "ready": True}
        assert (await client.ask("/v2/models/m/config")).json == {"name": "m"}
        assert (await client.ask("/v2/repository/index", b"")).json[0]["name"] == "m"
        assert (await client.ask("/v2/models/q/config")).json == {"error": "unknown model 'q'; served: m"}
        assert (await client.ask("/nowhere")).status == 404
        page = (await client.ask("/metrics")).body.decode()
        assert f'forebay_node_in_rotation{{node="127.0.0.1:{node.port}"}} 1.0' in page
        assert f'forebay_node_attempts_total{{model="m",node="127.0.0.1:{node.port}"}} 0.0' in page
        node.ready = False
        await it.rotation()
        assert (await client.ask("/v2/health/ready")).status == 503
        assert (await client.ask("/v2/models/m/ready")).status == 400
        assert (await client.ask("/v2/models/m/config")).status == 503

    play(story)


@pytest.mark.parametrize(
    ("body", "header_length", "needs"),
    [
        (b'{"inputs":[{"shape":[3,4]}],"parameters":{"priority":2,"timeout":5}}', None, Needs(3, 1, 5000)),
        (b'{"inputs":[{"shape":[3,4]}]}\x00\x01', 28, Needs(3, 1, 77)),
        (b"\x00\x01", 0, Needs(1, 1, 77)),
        (b'{"inputs":[]}', None, Needs(1, 1, 77)),
        (b'{"inputs":[{"shape":["a"]}]}', None, Needs(1, 1, 77)),
        (b"[1]", None, Needs(1, 1, 77)),
        (b"[" * 100_000, None, Needs(1, 1, 77)),
        (b'{"inputs":[{"shape":[0]}],"parameters":{"timeout":-5}}', None, Needs(1, 1, 77)),
    ],
)
def test_what_has_to_wait_is_read_as_far_as_it_can_be(body: bytes, header_length: int | None, needs: Needs) -> None:
    assert needs_of(body, header_length, Needs(1, 1, 77)) == needs
