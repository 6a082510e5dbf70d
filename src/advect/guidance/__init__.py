"""How it is steered."""

from advect.guidance.base import Guidance

__all__ = ["Guidance"]
