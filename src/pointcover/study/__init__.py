"""Plan, run and report studies of accuracy by label budget."""
