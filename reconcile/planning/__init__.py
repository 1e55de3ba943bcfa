"""Desired state times catalog gives a plan: the plan's model, how it is made, its file, its renderings."""
