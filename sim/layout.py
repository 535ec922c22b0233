"""Where the kernel keeps what: columns and offsets of its flat int64 arrays.

Five arrays hold a plane. `rows`: one row a node, and one more of the router where there is one; a
helper gets the row that it works on as `s`, the router's as `g`: scalars, then one block a priority
level, then one column after another of the replicas. `pool`: 32 numbers a request present. `q`:
rings, free lists, batches and heaps, at offsets kept in a row. `t` and `x`: integer and float parts
of the tally.

Where one node is simulated, and no router, its row is also the one that holds what is the plane's:
arrivals, clients, free slots of the pool.
"""

# s: the clock and what control set.
NOW_NS = 0
DRAINING = 1
REPLICAS = 2
SLOTS = 3
LEVELS = 4
MAX_BATCH = 5
WINDOW_NS = 6  # of our batching; WAKES: another policy says when it is to be asked again
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
ROUTED = 39  # 1: a router sends the requests, and is told of what leaves
OUTBOX = 40  # how many left in the event that is handled
AT_OUTBOX = 41  # offset in q: their slots
PRESENT = 42  # requests that arrived at this node and have not left, for which there is ROOM; the router's: unsettled
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
ROWS_OUT_MAX = 65  # rows that `out` has room for; its first one holds how many there are
EMPTIED = 66  # of the router: 1: control has yet to be told that no request is unsettled; -1: it does not want to know
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

# s: of a node that a router knows.
ROOM = 105  # requests that may be present at once
ONGOING = 106  # requests enqueued whose batch is not finished, and their rows
ONGOING_ROWS = 107
ROW_NS = 108  # what a row is expected to take of a replica
TABLE_AT = 109  # where its service times and levels begin
LEVELS_AT = 110
NODE = 111

# s: of the router.
ROUTING = 112  # kind of policy
NETWORK_NS = 113
TRUE_STATE = 114  # 1: it knows what nodes hold without being told
TURN = 115
CANDIDATES = 116
LEAVES = 117  # of the tournament of nodes, a power of two
WHERE = 118  # out: the node of a stop, or whose arrays are full

BATCH_COLUMNS = 119  # of the tally's batch sizes

# s: of the router, retries.
RETRIES_MAX = 120
BUDGET_PERCENT = 121
BACKOFF_NS = 122
BACKOFF_MOST_NS = 123
EXTRA = 124  # retries and hedges under way, retries that wait for their turn included
OUTSTANDING = 125

LOST = 126  # 1: a node is gone until one of its replicas is ready again

# Heaps of (instant, request id, slot or client). Those of timers have a buffer of (id, slot) in front,
# because most timers are forgotten before anybody asks for them; DUE is a lower bound over both. A node has
# the first two, a plane the others, all but the clients' only if it has a router.
# s: counters of a node (rule 13), if they are kept, and until when its integrals are up to date.
METERED = 141
METERED_NS = 127
BUSY_AREA_NS = 128
ONGOING_AREA_NS = 129
WAITING_AREA_NS = 130
ARRIVALS = 131
ROWS_IN = 132
ANSWERS_OUT = 133
WAITED_NS = 134

# s: of the router, what waits while there is no node: rings by priority as at a node, and their integral.
BUFFER_MAX = 135  # rows; 0: nothing may wait
BUFFERED = 136
BUFFERED_ROWS = 137
BUFFERED_AREA_NS = 138
BUFFERED_NS = 139
WOKEN_ID = 140  # request that entered an empty buffer, of which control has yet to be told

# s: of the router, nodes that fail.
ROTATION = 142  # nodes in rotation; CANDIDATES of them are not ejected
EJECT_FAILURES = 143  # in a row; 0: nothing is ejected
EJECT_BASE_NS = 144
EJECT_PERCENT = 145
CHANGE_NS = 146  # when the candidates must be found anew, because one returns or was ejected

# s: failures (rule 14).
FAULTS = 147  # of a node: 1 if it is slow, and one more for each replica that hangs
SLOW_PER_MILLE = 148  # what service takes there, in thousandths of what it should; 0: as it should
BATCH_DEADLINE_NS = 149  # after its start the replica of a batch that hangs is killed
DIED_COUNT = 150  # of replicas that hung, of which control has yet to be told
CUT = 151  # 1: nothing passes between router and node
ANSWER_TIMEOUT_NS = 152  # of the router: an attempt of which nothing came back so long after it was sent is lost

# s: groups of nodes, each of which serves one version of one model. A group has a row as well, after those of the
# nodes; that of the last one is the router's own.
GROUPS = 153
GROUP = 154  # a node's, or the number of this one
FIRST_NODE = 155  # of a group, whose nodes have successive numbers
NODE_COUNT = 156
SHARE_UPTO = 157  # where a version's part of the draws ends
WOKEN_GROUP = 158

# s: machines that several nodes are on.
SHARED = 159  # 1: this node is not alone on its machine
MACHINE_AT = 160  # in q: replicas that run on it
AT_MACHINES = 161

# s: of the router, hedges.
HEDGE_AFTER_NS = 162  # NEVER_NS: none; negative: after the p95 of the last answers
HEDGE_ANSWERS = 163  # how many of them

T_WASTED = 164  # offsets in t
T_HEDGES = 165

HEAPS = 166  # HEAP_WIDTH numbers a heap
DEADLINES, CANCELS, CLIENTS, ANSWERS, DELIVERIES, GIVE_UPS, RETRIES, HEAP_COUNT = range(8)
HEAP_BASE, HEAP_SIZE, BUFFER_BASE, BUFFER_SIZE, TIMER_DUE_NS, HEAP_WIDTH = range(6)
HEAP_ENTRY = 3
BUFFER_ENTRY = 2

# s: another engine's batching policy.
POLICY = 208
WAKE_NS = 209  # when it asked to be asked again
TURNS = 210
BATCHING_STATE = 211
BATCHING = 212  # its parameters, BATCHING_WIDTH at most
BATCHING_WIDTH = 12
WAKES = -1

# s: of the error budget's bins, which are finer and count only requests; none: FINE_BINS is 0.
FINE_BINS = 224
FINE_NS = 225
FINE = 226  # the bin of the last look-up, and where it starts
FINE_LOW_NS = 227
T_FINE = 228  # offset in t

CREDIT = 229  # of a group: rows that may be outstanding at a node before others wait at the router; 0: any number

LEVEL = 230  # LEVEL_WIDTH numbers a level
LEVEL_HEAD, LEVEL_TAIL, LEVEL_ROWS = range(3)
LEVEL_WIDTH = 4
LEVELS_MAX = 64
REPLICA = LEVEL + LEVEL_WIDTH * LEVELS_MAX  # then one column after another, REPLICAS long
R_UP, R_DRAINING, R_INCARNATION, R_OCCUPIED, R_RUNNING, R_SECOND, R_END_NS, R_DRAINED, R_RESTED_NS, R_HANGS = range(10)
R_LAST = 10  # the last of the batches that wait in its slots, R_SECOND the first
R_HELD = 11  # rows of its batches whose finish is not done, under a policy of workers
R_GATHERED = 12  # rows that it has pulled, which still wait
R_TURN = 13
R_WIDTH = 14
REPLICA_STATE = 2  # numbers of a policy of workers, replica by replica after all columns
HANGS, DIED = 1, 2  # bits of R_HANGS: its batch never ends; it died of that, of which control has yet to be told

# pool: one row of 32 a request; of one that a router sends, ID is its attempt's index.
POOL_SHIFT = 5
ID = 0
CLASS = 1
ROWS = 2
PRIORITY = 3
ARRIVAL_NS = 4
ENQUEUE_NS = 5
NUMBER = 6  # and, when it has left its node, what that told
REPORT = 6
HEARD_NS = 6  # of an attempt that was dropped: when the router gives it up
DEADLINE_NS = 7  # its timeout until it is enqueued; of heap h, the instant is in column DEADLINE_NS + h
CANCEL_NS = 8
CLIENT_NS = 9
DEATHS = 10
NEXT = 11  # next request of the same batch
POSITION = 12  # in its level's ring while it waits, else NOWHERE
CLIENT = 13
HEDGE = 14  # slot of the attempt beside it; of a hedge, of the one that it is beside
HEAPED = 15  # bit h: heap h or its buffer holds an entry for it; from bit GATHERER_AT on: 1 + who has pulled it
GATHERER_AT = 8
FIRST_NS = 16  # arrival at the router
SENT_TO = 17
LEFT_NS = 18  # when, and how, it left its node, and what that then told
LEFT_BY = 19  # outcome * 16 + reason, and before it has left those of its refuse job
PATIENCE_NS = 20  # of its client, from each time that it asks
MADE = 21  # numbers given to attempts at its request
SETTLED = 22  # 1: the client has its answer, or gave up
ROUTE = 23  # its draw or key, as routing takes it
TIMEOUT_NS = 24  # of each of its attempts
BY_REPLICA = 25  # what an attempt that left its node rode in
BY_BATCH = 26
DISPATCHED_NS = 27
STARTED_NS = 28
ENDED_NS = 29
PLACE = 30  # where an attempt is
STORY = 31  # its cause; retries of the router (RETRIES_AT) and of the client (TRIES_AT) before it; its group (GROUP_AT)
RETRIES_AT, TRIES_AT, GROUP_AT = 2, 8, 14

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
B_REQUESTS = 9
B_REPORT = 10  # what its node tells with its answers
B_NEXT = 11  # the batch behind it in the slots of its replica

# Where an attempt is: with the router or on its way to a node, there, on its way back, waiting for a node, or nowhere,
# because the network was cut on its way.
WITH_ROUTER, AT_NODE, LEFT, IN_BUFFER, DROPPED = range(5)

NOWHERE = -1
UNKNOWN = -2
POSITION_ZERO = 2**40  # rings start here, so that a position put before the head is never negative

INDEX_MASK = 2**48 - 1  # a masked index is not negative: the compiler need not look for a wrap-around

# Kinds of front jobs; REST is what holds the station after rule 3: handing over batches, then answers.
JOB_PARSE, JOB_FINISH, JOB_REFUSE, JOB_REST = range(4)

# What the router knows of nodes: lines of an array. Candidates and rotation are ids, the others are by id.
K_NODES, K_ROTATION, K_SCORE, K_ROWS, K_FAILURES, K_EJECTIONS, K_UNTIL_NS, K_LINES = range(8)

# What the router knows of classes: columns of an array. How often their clients ask again, whether nodes never learn
# that one gave up, the first of the groups that serve them, and how many these are.
A_TRIES, A_SILENT, A_GROUP, A_GROUPS, A_STEP, A_WIDTH = range(6)

# Operations of control.
OP_NONE, OP_READY, OP_KILL, OP_DRAIN_REPLICA, OP_DRAIN, OP_LOSE, OP_RETIRE, OP_ROTATE = range(8)
OP_SLOW, OP_HANG, OP_CUT = range(8, 11)

# What the kernel returns: the codes of `sim.plane.StopCode`, and GROW when an array is full.
STOP_UNTIL, STOP_STARVED, STOP_NO_REPLICA, STOP_DRAINED, STOP_FAILED, STOP_EMPTY, STOP_DIED = range(7)
GROW = 100

# Columns of a closed-loop request, then its draws.
C_ARRIVAL_NS, C_ROWS, C_CLASS, C_PRIORITY, C_TIMEOUT_NS, C_PATIENCE_NS, C_CLIENT_NS, C_ROUTE, C_WIDTH = range(9)
