"""What must hold: every law once, where its formula is computed."""
