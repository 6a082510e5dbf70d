"""Inverse problems: operators, and methods that restore what an operator and noise have left."""
