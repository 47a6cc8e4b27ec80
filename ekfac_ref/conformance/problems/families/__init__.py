"""Families of networks to draw from, by what goes into them: rows of numbers, images, words."""
