"""Federation: rounds between a server and clients. Only bytes are exchanged, whatever the engine.

`round_loop.federate` runs the rounds: the server opens a round with requests, an engine delivers them and returns
replies, the server closes the round, and the ledger counts every message.

Each file imports only files that stand before it in this list (types aside):
base classes and configuration: engine, hooks/hook, hooks/attack, run_config, read_config, cohort
messages: messages (requests, sections), protocol (what both sides know), neuron_messages, hooks
global model on the downlink: weighted_mean, update_forwarding, downlink_deltas
rounds: round_result, server, client, engines, dropout, round_loop

`server` and `client` never import each other. A new engine is a file in `engines/`; what a choice of the method adds to
a round is a hook in `hooks/`.
"""
