"""Language models and who has them: messages, providers, the catalog of models, and the dialects that they and their clients speak."""

from uait.llm.catalog import Catalog as Catalog
from uait.llm.catalog import Entry as Entry
from uait.llm.catalog import Target as Target
from uait.llm.catalog import open_catalog as open_catalog
from uait.llm.kinds import ProviderKind as ProviderKind
from uait.llm.kinds import ProviderSettings as ProviderSettings
from uait.llm.messages import Chunk as Chunk
from uait.llm.messages import Collected as Collected
from uait.llm.messages import GenerateRequest as GenerateRequest
from uait.llm.messages import Message as Message
from uait.llm.messages import Text as Text
from uait.llm.messages import Usage as Usage
from uait.llm.provider import Capability as Capability
from uait.llm.provider import Embeddings as Embeddings
from uait.llm.provider import Model as Model
from uait.llm.provider import Provider as Provider
from uait.llm.provider import check_capabilities as check_capabilities
from uait.llm.provider import unsupported as unsupported
from uait.llm.upstream import Timeouts as Timeouts
