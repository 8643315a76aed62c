"""Pure parts of routing: the ledger of calls, the state of a channel, routes and leases. No Ray, no sockets."""
