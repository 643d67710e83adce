"""The parts of `benchmarks.relay`."""
