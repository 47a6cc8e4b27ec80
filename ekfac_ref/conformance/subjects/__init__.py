"""Who is on trial, and what it answered."""
