"""What README and docs say of results, written and verified."""
