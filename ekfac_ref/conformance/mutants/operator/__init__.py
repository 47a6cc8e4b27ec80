"""Mistakes in products and solves with Q_B, Q_A and Lambda that are right."""
