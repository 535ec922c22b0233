"""Other engines' batching rules, in the contract of `serve.policy.batching`: what each replaces of rules 1 to 9.

A policy of a *queue* (Triton, TensorFlow Serving, TorchServe) says when a batch leaves the queue, for a replica that
rule 4 chooses. A policy of *workers* (MOSEC, LitServe, Ray Serve) has each replica pull requests into a batch of its
own, long before it leaves; what it has pulled still waits, as far as rules 1, 6 and 7 go. `state` is the row of the
queue, or of the replica, that a leaf may write.

All of them count a batch in rows, where TorchServe and the engines with workers count requests: of requests of one row,
which is all that those know, that is the same.
"""
