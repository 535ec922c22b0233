"""Integer codes of the rulebook: reasons, outcomes, causes and the order of simultaneous events.

Plain module-level integers, because compiled code freezes them; `serve.records` gives them names.
"""

# Why a batch left (rule 3) or a request was refused or dropped. One column of the row holds both.
REASON_NONE = 0
REASON_FULL = 1
REASON_WINDOW = 2
REASON_IDLE = 3
REASON_DRAIN = 4
REASON_QUEUE = 5  # refused: waiting rows would exceed max_queue (rule 1)
REASON_FRONT = 6  # refused from its header: waited longer than front_budget (rule 10)
REASON_DRAINING = 7  # refused: the node drains (rule 12)
REASON_ROWS = 8  # invalid: more rows than max_batch (rule 1)
REASON_DEADLINE = 9  # expired in the queue (rule 6)
REASON_CLIENT = 10  # cancelled by the client (rule 7)
REASON_DEATH = 11  # failed: its replica died once too often (rule 8)
REASON_NO_NODE = 12  # refused: the router has no node to send it to (rule 17)
REASON_NODE = 13  # lost: its node went (rule 14)
REASON_PARTITION = 14  # lost: nothing came back over a network that was cut (rule 14)
REASON_COUNT = 15

# What became of an attempt.
OUTCOME_PENDING = -1
OUTCOME_OK = 0
OUTCOME_INVALID = 1
OUTCOME_FULL = 2
OUTCOME_DRAINING = 3
OUTCOME_EXPIRED = 4
OUTCOME_CANCELLED = 5
OUTCOME_LOST = 6
OUTCOME_FAILED = 7
OUTCOME_COUNT = 8

# Why an attempt was sent. Only FIRST occurs on one node.
CAUSE_FIRST = 0
CAUSE_ROUTER_RETRY = 1
CAUSE_CLIENT_RETRY = 2
CAUSE_HEDGE = 3

# Order of events at one instant (DESIGN section 1): lower first, then the index named.
EVENT_ENDED = 0  # a replica ends a batch (node, replica)
EVENT_FRONT = 1  # a front job ends (node, front)
EVENT_CONTROL = 2  # replica up or dead, drain (file order)
EVENT_ANSWERED = 3  # an answer reaches the router (attempt)
EVENT_RETRY = 4  # the router's timer of a retry or hedge (attempt)
EVENT_ARRIVAL = 5  # at the router, or at the only node (request id)
EVENT_DELIVERED = 6  # an attempt reaches its node (attempt)
EVENT_GIVEN_UP = 7  # a client tells the router that it gave up (request id)
EVENT_CANCEL = 8  # its node learns of it (node, attempt)
EVENT_WINDOW = 9  # window timer (node, queue)
EVENT_DEADLINE = 10  # (node, attempt)

# An attempt's index is its request's id and its number: request x 64 + attempt.
ATTEMPT_BITS = 6

# Kinds of batching policy: ours, and other engines'; from POLICY_WORKERS on each replica gathers its own batches.
POLICY_FOREBAY = 0
POLICY_TRITON = 1
POLICY_TF_SERVING = 2
POLICY_TORCHSERVE = 3
POLICY_WORKERS = 4
POLICY_MOSEC = 4
POLICY_LITSERVE = 5
POLICY_RAY_SERVE = 6

# What a batching policy of workers is told beside the events of the clock.
BATCHING_FREE = 100  # a replica became free
BATCHING_FIRST = 101  # it pulled its batch's first request

NEVER_NS = 2**62  # an instant later than any other
