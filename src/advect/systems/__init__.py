"""Published systems as assemblies of parts: what each is for, what it claims, and how that is checked."""

from advect.systems.framework import Claim, System
from advect.systems.framework.registry import all_systems, get, slugs
from advect.systems.framework.runner import reproduce

__all__ = ["Claim", "System", "all_systems", "get", "reproduce", "slugs"]
