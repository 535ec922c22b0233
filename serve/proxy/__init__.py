"""The live router over HTTP: `serve.router`'s decisions, sockets around them.

Read `serve.proxy.gateway` first (routers, nodes and what runs between them), then `front` and `forwarded` (the
clients' side), `upstream` (the nodes' side) and `watch` (who is in rotation).
"""
