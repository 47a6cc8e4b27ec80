"""An optimizer over several updates: what it did, and what it should have done."""
