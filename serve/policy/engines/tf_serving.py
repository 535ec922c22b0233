"""TensorFlow Serving's shared batch scheduler: rule 3 as ours, replaces rule 1.

Source: tensorflow/core/kernels/batching_util/shared_batch_scheduler.h. A task joins the open batch at the queue's end,
or closes it and begins another where it does not fit; a closed batch, or an open one that is full or has waited for
`batch_timeout_micros`, goes to the next free batch thread. In the order of arrival that cuts the queue where rule 2
does, and the time-out is rule 3's window. The queue's bound is `max_enqueued_batches`, the open one included. A batch
thread is a replica (`num_batch_threads`: `replicas.count`).

Left out: an idle thread looks for time-outs once a millisecond, so that they are up to 1 ms late; queues that share
the threads; padding to `allowed_batch_sizes`; splitting large requests; that a task whose client gave up stays queued.
"""

# Parameter vector: max_batch, batch_timeout in ns, max_enqueued_batches.
PARAM_MAX_BATCH = 0
PARAM_TIMEOUT_NS = 1
PARAM_MAX_BATCHES = 2


def starts_batch(open_rows, rows, max_batch):
    """Whether a task of `rows` begins a batch of its own behind one of `open_rows`."""
    if open_rows == 0 or open_rows + rows > max_batch:
        return 1
    return 0


def overflows(batches, max_batches):
    """Whether the newcomer is refused, that made the waiting requests so many batches."""
    if batches > max_batches:
        return 1
    return 0
