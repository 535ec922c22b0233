"""Where the kernel keeps what: columns and offsets of its flat int64 arrays.

Five arrays hold a plane. `rows`: one row a node, and one more of the router where there is one; a
helper gets the row that it works on as `s`, the router's as `g`: scalars, then one block a priority
level, then one column after another of the replicas. `pool`: 32 numbers a request present. `q`:
rings, free lists, batches and heaps, at offsets kept in a row. `t` and `x`: integer and float parts
of the tally.

Where one node is simulated, and no router, its row is also the one that holds what is the plane's:
arrivals, clients, free slots of the pool.
"""

# s: what events of a node touch comes first, in about the order in which they do, so that few lines of a cache are
# read. Every event:
NOW_NS = 0
NEXT_END_NS = 1
FRONT_END_NS = 2  # when the job in progress ends; NEVER_NS: idle
METERED = 3  # whether its counters (rule 13) are kept
PRESENT = 4  # requests that arrived at this node and have not left, for which there is ROOM; the router's: unsettled
ROOM = 5  # requests that may be present at once
CUT = 6  # 1: nothing passes between router and node
LOST = 7  # 1: a node is gone until one of its replicas is ready again
DRAINING = 8
AVAILABLE = 9  # replicas that are up and not draining
JOBS_HEAD = 10
JOBS_TAIL = 11
JOBS_MASK = 12
AT_JOBS = 13
JOB_KIND = 14
JOB_OF = 15  # slot or batch
DRAINED_COUNT = 16  # stops that control has yet to be told
DIED_COUNT = 17  # of replicas that hung, of which control has yet to be told
FAILED_ID = 18
HOMELESS_ID = 19
OUTBOX = 20  # how many left in the event that is handled
WAITING = 21
WINDOW_NS = 22  # of our batching; WAKES: another policy says when it is to be asked again
OLDEST = 23  # slot of the oldest waiting request; UNKNOWN: look for it
WAKE_NS = 24  # when another engine's policy asked to be asked again
WINDOW_FIRED_NS = 25
KEEP_TALLY = 26
TIME_BINS = 27
BIN = 28  # the time bin of the last look-up, and where it starts
BIN_LOW_NS = 29
BIN_NS = 30
X_FRONT = 31
FRONT = 32  # vector of the front's costs, FRONT_PARAM_COUNT long

# s: the queue and rule 3.
HANDING_OVER_NS = 45  # how long the batches that left in this run of rule 3 hold the front
POLICY = 46
NEWCOMER = 47
MAX_QUEUE = 48
MAX_BATCH = 49
NUMBERS = 50
RING_MASK = 51
RING_SHIFT = 52
AT_RING = 53
ONGOING = 54  # requests enqueued whose batch is not finished, and their rows
ONGOING_ROWS = 55
WAITING_ROWS = 56
FREE_SLOTS = 57  # of replicas that are up and not draining
REPLICAS = 58
LEVELS = 59
SLOTS = 60
RUNNING = 61
NEXT_END_REPLICA = 62

# s: batches, and what a node tells.
BATCHES_FREE = 63
AT_BATCHES_FREE = 64
AT_BATCHES = 65
BATCH_IDS = 66
DRAWS = 67  # draws kept of each request
AT_DRAWS = 68
SHARED = 69  # 1: this node is not alone on its machine
FAULTS = 70  # of a node: 1 if it is slow, and one more for each replica that hangs
HANDOVER_NS = 71  # of the replicas together: what a batch saves that waited in a second slot
LEVELS_AT = 72  # where its levels and service times begin
LEVEL_COUNT = 73
LEVEL_BIN_NS = 74
TABLE_AT = 75
TABLE_BITS = 76
TABLE_ROWS_MAX = 77
PRESSURE_MAX = 78
BATCH_COLUMNS = 79  # of the tally's batch sizes
T_BATCH_ROWS = 80
T_BATCH_REASONS = 81
X_BUSY = 82  # offsets in x
X_IN_SYSTEM = 83
KEEP_ROWS = 84
ROUTED = 85  # 1: a router sends the requests, and is told of what leaves
ROUTING = 86  # kind of policy
AT_OUTBOX = 87  # offset in q: slots of those that left
ROW_NS = 88  # what a row is expected to take of a replica

# s: counters of a node (rule 13), if they are kept, and until when its integrals are up to date.
METERED_NS = 89
BUSY_AREA_NS = 90
ONGOING_AREA_NS = 91
WAITING_AREA_NS = 92
ARRIVALS = 93
ROWS_IN = 94
ANSWERS_OUT = 95
WAITED_NS = 96

COLD = 97  # curve of what idle replicas take longer, COLD_KNOTS long

# s: heaps of (instant, request id, slot or client). Those of timers have a buffer of (id, slot) in front, because most
# timers are forgotten before anybody asks for them; DUE is a lower bound over both. A node has the first two, a plane
# the others, all but the clients' only if it has a router. ANSWERS and DELIVERIES are lines: they begin anywhere from
# LINE_BASE to LINE_END.
HEAPS = 107  # HEAP_WIDTH numbers a heap
DEADLINES, CANCELS, CLIENTS, ANSWERS, DELIVERIES, GIVE_UPS, RETRIES, HEAP_COUNT = range(8)
HEAP_BASE, HEAP_SIZE, BUFFER_BASE, BUFFER_SIZE, TIMER_DUE_NS, LINE_BASE, LINE_END, UNSORTED, HEAP_WIDTH = range(9)
HEAP_ENTRY = 3
BUFFER_ENTRY = 2

# s: what is seldom looked at: limits.
MAX_DEATHS = 170
RETRY_AFTER_NS = 171

# s: free slots of the pool.
FREE = 172  # number of free slots
AT_FREE = 173  # offset in q
AT_THINK = 174  # offset in q: the clients' pauses

# s: arrivals.
OPEN_AT = 175
OPEN_COUNT = 176
OPEN_FIRST_ID = 177
OPEN_ENDED = 178
CLOSED_FIRST_ID = 179
CLOSED_FIRST_INDEX = 180  # index of the first closed-loop request that is still held
CLOSED_COUNT = 181
CLIENT_COUNT = 182
AT_TURNS = 183  # offset in q: index of each client's next request

# s: what is kept.
ROWS_OUT_MAX = 184  # rows that `out` has room for; its first one holds how many there are
EMPTIED = 185  # of the router: 1: control has yet to be told that no request is unsettled; -1: it does not want to know
T_GOOD = 186  # offsets in t
T_OUTCOMES = 187
T_DROPS = 188
T_SLO = 189
WHICH = 190  # out: the request or replica of a stop
POOL_SIZE = 191

# s: of a node that a router knows.
NODE = 192

# s: of the router.
NETWORK_NS = 193
TRUE_STATE = 194  # 1: it knows what nodes hold without being told
TURN = 195
CANDIDATES = 196
LEAVES = 197  # of the tournament of nodes, a power of two
WHERE = 198  # out: the node of a stop, or whose arrays are full

# s: of the router, retries.
RETRIES_MAX = 199
BUDGET_PERCENT = 200
BACKOFF_NS = 201
BACKOFF_MOST_NS = 202
EXTRA = 203  # retries and hedges under way, retries that wait for their turn included
OUTSTANDING = 204

# s: of the router, what waits while there is no node: rings by priority as at a node, and their integral.
BUFFER_MAX = 205  # rows; 0: nothing may wait
BUFFERED = 206
BUFFERED_ROWS = 207
BUFFERED_AREA_NS = 208
BUFFERED_NS = 209
WOKEN_ID = 210  # request that entered an empty buffer, of which control has yet to be told

# s: of the router, nodes that fail.
ROTATION = 211  # nodes in rotation; CANDIDATES of them are not ejected
EJECT_FAILURES = 212  # in a row; 0: nothing is ejected
EJECT_BASE_NS = 213
EJECT_PERCENT = 214
CHANGE_NS = 215  # when the candidates must be found anew, because one returns or was ejected

# s: failures (rule 14).
SLOW_PER_MILLE = 216  # what service takes there, in thousandths of what it should; 0: as it should
BATCH_DEADLINE_NS = 217  # after its start the replica of a batch that hangs is killed
ANSWER_TIMEOUT_NS = 218  # of the router: an attempt of which nothing came back so long after it was sent is lost

# s: groups of nodes, each of which serves one version of one model. A group has a row as well, after those of the
# nodes; that of the last one is the router's own.
GROUPS = 219
GROUP = 220  # a node's, or the number of this one
FIRST_NODE = 221  # of a group, whose nodes have successive numbers
NODE_COUNT = 222
SHARE_UPTO = 223  # where a version's part of the draws ends
WOKEN_GROUP = 224

# s: machines that several nodes are on.
MACHINE_AT = 225  # in q: replicas that run on it
AT_MACHINES = 226

# s: of the router, hedges.
HEDGE_AFTER_NS = 227  # NEVER_NS: none; negative: after the p95 of the last answers
HEDGE_ANSWERS = 228  # how many of them

T_WASTED = 229  # offsets in t
T_HEDGES = 230

# s: another engine's batching policy.
TURNS = 231
BATCHING_STATE = 232
BATCHING = 233  # its parameters, BATCHING_WIDTH at most
BATCHING_WIDTH = 12
WAKES = -1

# s: of the error budget's bins, which are finer and count only requests; none: FINE_BINS is 0.
FINE_BINS = 245
FINE_NS = 246
FINE = 247  # the bin of the last look-up, and where it starts
FINE_LOW_NS = 248
T_FINE = 249  # offset in t

CREDIT = 250  # of a group: rows that may be outstanding at a node before others wait at the router; 0: any number

LEVEL = 251  # LEVEL_WIDTH numbers a level
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
