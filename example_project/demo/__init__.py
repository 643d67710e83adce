"""The whole flow, live, on this machine: a bank, its traffic, a worker, and the ledger."""
