"""The server: requests, checks of replies, aggregation.

`server.Server` opens and closes rounds; its state is serialisable at any time. The files in the order of a round:
phases: which client is asked for what, and which exchange follows
requests: encoding of requests
replies: decoding and checks of replies
aggregation_buffer, round_in_progress: what was accepted so far
aggregate: the next global model, with align_models (neuron orders) and repair_model where the method needs them

What an aggregation rule computes is in `methods/aggregation`; a new phase is a function in `phases`.
"""
