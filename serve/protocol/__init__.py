"""The Open Inference Protocol v2: from bytes on a socket to arrays in the engine and back.

Read `oip` first (what a request may say), then `connection` (how it arrives and how its answer leaves),
then `routes` (everything that is not an inference). `tensors` and `answer` are the codec, `documents`
what the server tells of itself, `signature` what is known of a model, `errors` what goes wrong.
`http` listens. The wire in prose: docs/protocol.md.
"""
