"""Routing: which model of which provider is asked, what is done when it fails, and what becomes of it."""

from uait.llm.routing.explain import Explanation as Explanation
from uait.llm.routing.explain import Prospect as Prospect
from uait.llm.routing.itinerary import Plan as Plan
from uait.llm.routing.policy import Price as Price
from uait.llm.routing.policy import RouteSettings as RouteSettings
from uait.llm.routing.policy import RoutingSettings as RoutingSettings
from uait.llm.routing.policy import Strategy as Strategy
from uait.llm.routing.router import Asked as Asked
from uait.llm.routing.router import Router as Router
from uait.llm.routing.router import open_router as open_router
from uait.llm.routing.trace import Attempt as Attempt
from uait.llm.routing.trace import Trace as Trace
