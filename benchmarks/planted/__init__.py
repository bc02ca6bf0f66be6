"""Drawn images whose classifier errs for a cause that is known, as it was planted."""
