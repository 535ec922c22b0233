"""The rulebook's decisions: pure leaf functions of integers, importing nothing of ours.

Read `batching` first (when a batch leaves), then `admission` (who is let in, put back, expired)
and `front` (what the HTTP front's work costs). Every leaf takes and returns int64 (or tuples of
it), calls no other function of ours, and owns no clock, queue or random number, so that the live
scheduler, the reference simulator and the compiled data plane all run this very source.
"""
