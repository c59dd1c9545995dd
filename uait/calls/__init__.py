"""How one service calls another, with its deadline, identity and trace."""

from uait.calls.client import Calls as Calls
from uait.calls.client import Directory as Directory
from uait.calls.client import LocalService as LocalService
from uait.calls.client import ServiceClient as ServiceClient
from uait.calls.context import SCOPE_KEY as SCOPE_KEY
from uait.calls.context import CallContext as CallContext
from uait.calls.context import Identity as Identity
from uait.calls.context import bind_call as bind_call
from uait.calls.context import current_call as current_call
from uait.calls.deadline import TIMEOUT_HEADER as TIMEOUT_HEADER
from uait.calls.deadline import remaining as remaining
