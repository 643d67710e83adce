"""Rules over the records, evaluated as they come; who is told when one fires."""
