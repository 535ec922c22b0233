"""Where an engine is to listen is tried before its models are loaded."""

from __future__ import annotations

import socket

import pytest

from serve.errors import EngineError
from serve.run import check_address, url_of


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_addresses_of_this_machine_will_do(host: str) -> None:
    check_address(host, 0)


@pytest.mark.parametrize("host", ["", "a b", "192.0.2.1", "x" * 64 + ".invalid", "[::1]", ".."])
def test_an_address_that_is_not_this_machine_s_is_told(host: str) -> None:
    with pytest.raises(EngineError, match="cannot listen on"):
        check_address(host, 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("localhost", "http://localhost:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("fe80::1", "http://[fe80::1]:80"),
    ],
)
def test_the_url_is_one_that_a_client_here_can_ask(host: str, url: str) -> None:
    assert url_of(host, 80) == url


def test_a_port_in_use_is_told_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
            check_address("127.0.0.1", port)
    check_address("127.0.0.1", port)
