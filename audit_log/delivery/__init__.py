"""From the outbox to the ledger."""
