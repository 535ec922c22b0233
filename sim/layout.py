"""Where the kernel keeps what: columns and offsets of its flat int64 arrays.

Five arrays hold a plane. `s`: scalars, then one block a priority level, then one column after
another of the replicas. `pool`: 16 numbers a request present. `q`: rings, free lists, batches and
heaps, at offsets kept in `s`. `t` and `x`: integer and float parts of the tally.

One node has one front and one queue, so their scalars lie in `s` itself; with several, each gets a
copy of that block and the helpers their block's offset, while pool, batches and heaps stay shared.
"""

# s: the clock and what control set.
NOW_NS = 0
DRAINING = 1
REPLICAS = 2
SLOTS = 3
LEVELS = 4
MAX_BATCH = 5
WINDOW_NS = 6
MAX_QUEUE = 7
MAX_DEATHS = 8
RETRY_AFTER_NS = 9
TABLE_BITS = 10
TABLE_ROWS_MAX = 11
PRESSURE_MAX = 12
LEVEL_BIN_NS = 13
LEVEL_COUNT = 14

# s: replicas together.
NEXT_END_NS = 15
NEXT_END_REPLICA = 16
RUNNING = 17
FREE_SLOTS = 18  # of replicas that are up and not draining
AVAILABLE = 19  # replicas that are up and not draining

# s: the front station.
FRONT_END_NS = 20  # when the job in progress ends; NEVER_NS: idle
JOB_KIND = 21
JOB_OF = 22  # slot or batch
JOBS_HEAD = 23
JOBS_TAIL = 24

# s: the queue.
WAITING_ROWS = 25
WAITING = 26
OLDEST = 27  # slot of the oldest waiting request; UNKNOWN: look for it
NUMBERS = 28
BATCH_IDS = 29
NEWCOMER = 30
WINDOW_FIRED_NS = 31

# s: free lists, rings and heaps.
FREE = 32  # number of free slots
BATCHES_FREE = 33
RING_MASK = 34
RING_SHIFT = 35
JOBS_MASK = 36

HANDOVER_NS = 37  # of the replicas together: what a batch saves that waited in a second slot
HANDING_OVER_NS = 38  # how long the batches that left in this run of rule 3 hold the front
AT_FREE = 43  # offsets in q
AT_BATCHES_FREE = 44
AT_BATCHES = 45
AT_JOBS = 46
AT_RING = 47
AT_DRAWS = 48
AT_THINK = 49
DRAWS = 50  # draws kept of each request

# s: arrivals.
OPEN_AT = 51
OPEN_COUNT = 52
OPEN_FIRST_ID = 53
OPEN_ENDED = 54
CLOSED_FIRST_ID = 55
CLOSED_FIRST_INDEX = 56  # index of the first closed-loop request that is still held
CLOSED_COUNT = 57
CLIENT_COUNT = 58
AT_TURNS = 59  # offset in q: index of each client's next request

# s: stops that control has yet to be told.
DRAINED_COUNT = 60
FAILED_ID = 61
HOMELESS_ID = 62

# s: what is kept.
KEEP_ROWS = 63
KEEP_TALLY = 64
ROWS_OUT = 65
ROWS_OUT_MAX = 66
TIME_BINS = 67
BIN_NS = 68
BIN = 69  # the time bin of the last look-up, and where it starts
BIN_LOW_NS = 70
T_GOOD = 71  # offsets in t
T_OUTCOMES = 72
T_DROPS = 73
T_BATCH_ROWS = 74
T_BATCH_REASONS = 75
T_SLO = 76
X_BUSY = 77  # offsets in x
X_FRONT = 78
X_IN_SYSTEM = 79
WHICH = 80  # out: the request or replica of a stop

POOL_SIZE = 81

FRONT = 82  # vector of the front's costs, FRONT_PARAM_COUNT long

COLD = 95  # curve of what idle replicas take longer, COLD_KNOTS long

# Heaps of (instant, request id, slot or client). Those of timers have a buffer of (id, slot) in front,
# because most timers are forgotten before anybody asks for them; DUE is a lower bound over both.
HEAPS = 105  # HEAP_WIDTH numbers a heap
DEADLINES, CANCELS, CLIENTS, HEAP_COUNT = range(4)
HEAP_BASE, HEAP_SIZE, BUFFER_BASE, BUFFER_SIZE, TIMER_DUE_NS, HEAP_WIDTH = range(6)
HEAP_ENTRY = 3
BUFFER_ENTRY = 2

LEVEL = 124  # LEVEL_WIDTH numbers a level
LEVEL_HEAD, LEVEL_TAIL, LEVEL_ROWS = range(3)
LEVEL_WIDTH = 4
LEVELS_MAX = 64
REPLICA = LEVEL + LEVEL_WIDTH * LEVELS_MAX  # then one column after another, REPLICAS long
R_UP, R_DRAINING, R_INCARNATION, R_OCCUPIED, R_RUNNING, R_SECOND, R_END_NS, R_DRAINED, R_RESTED_NS = range(9)
R_WIDTH = 9

# pool: one row of 16 a request.
POOL_SHIFT = 4
ID = 0
CLASS = 1
ROWS = 2
PRIORITY = 3
ARRIVAL_NS = 4
ENQUEUE_NS = 5
NUMBER = 6
DEADLINE_NS = 7  # its timeout until it is enqueued; of heap h, the instant is in column DEADLINE_NS + h
CANCEL_NS = 8
CLIENT_NS = 9
DEATHS = 10
NEXT = 11  # next request of the same batch
POSITION = 12  # in its level's ring while it waits, else NOWHERE
CLIENT = 13
VERDICT = 14  # outcome * 16 + reason of a refuse job
HEAPED = 15  # bit h: heap h or its buffer holds an entry for it

# q: one row of 16 a batch.
BATCH_SHIFT = 4
B_ID = 0
B_FIRST = 1
B_ROWS = 2
B_REASON = 3
B_REPLICA = 4
B_INCARNATION = 5
B_DISPATCH_NS = 6
B_START_NS = 7
B_DONE_NS = 8

NOWHERE = -1
UNKNOWN = -2
POSITION_ZERO = 2**40  # rings start here, so that a position put before the head is never negative

INDEX_MASK = 2**48 - 1  # a masked index is not negative: the compiler need not look for a wrap-around

# Kinds of front jobs; REST is what holds the station after rule 3: handing over batches, then answers.
JOB_PARSE, JOB_FINISH, JOB_REFUSE, JOB_REST = range(4)

# Operations of control.
OP_NONE, OP_READY, OP_KILL, OP_DRAIN_REPLICA, OP_DRAIN = range(5)

# What the kernel returns: the codes of `sim.plane.StopCode`, and GROW when an array is full.
STOP_UNTIL, STOP_STARVED, STOP_NO_REPLICA, STOP_DRAINED, STOP_FAILED = range(5)
GROW = 100

# Columns of a closed-loop request, then its draws.
C_ARRIVAL_NS, C_ROWS, C_CLASS, C_PRIORITY, C_TIMEOUT_NS, C_PATIENCE_NS, C_CLIENT_NS, C_WIDTH = range(8)
