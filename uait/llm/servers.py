"""Servers that speak OpenAI's dialect: where they are, and which variable has their key by custom. One line each."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Server:
    """A service in the net.

    Attributes:
        base_url: what `/chat/completions` is put after.
        key_variable: where it is set, the server is asked.
    """

    base_url: str
    key_variable: str


OPENAI = "https://api.openai.com/v1"
"""The vendor itself."""

SERVERS: Mapping[str, Server] = {
    "openrouter": Server("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "groq": Server("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": Server("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": Server("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "together": Server("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "xai": Server("https://api.x.ai/v1", "XAI_API_KEY"),
    "fireworks": Server("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "cerebras": Server("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "sambanova": Server("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "deepinfra": Server("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "nvidia": Server("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
    "moonshot": Server("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    "dashscope": Server("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
    "huggingface": Server("https://router.huggingface.co/v1", "HF_TOKEN"),
    "perplexity": Server("https://api.perplexity.ai", "PERPLEXITY_API_KEY"),
}

LOCAL_PORTS: Mapping[str, int] = {"ollama": 11434, "lmstudio": 1234, "llamacpp": 8080, "vllm": 8000}
"""Where model servers listen on one's own machine by custom. Ollama is asked in its own dialect."""
