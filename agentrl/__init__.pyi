"""The public names of AgentRL, one import each; `__init__.py` reads this file."""

from agentrl.episode import Episode as Episode
from agentrl.episode import Group as Group
from agentrl.errors import ConfigError as ConfigError
from agentrl.errors import ToolError as ToolError
from agentrl.message import Action as Action
from agentrl.message import Call as Call
from agentrl.message import Image as Image
from agentrl.message import Text as Text
from agentrl.message import answer as answer
from agentrl.message import call as call
from agentrl.task import ListedTasks as ListedTasks
from agentrl.task import Task as Task
from agentrl.toolenv import ToolEnv as ToolEnv
from agentrl.toolkit import tool as tool
