"""The verb *collect*: what is gathered beside the journal. Logs, acknowledgements, samples, surroundings, dumps."""
