"""Cloud providers that become the LLM tier if the environment holds their key."""

from typing import NamedTuple

from .server_kind import Engine


class Provider(NamedTuple):
    name: str
    key_variable: str
    """Environment variable that holds the key."""
    base_url_variable: str
    """Environment variable that replaces `url`; the provider's own client reads it too."""
    url: str
    model: str
    """Default model, unless SMALLFIRST_LLM_MODEL names another."""
    engine: Engine = "openai"
    """Kind of server."""


PROVIDERS = (
    Provider("openai", "OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1", "gpt-5-mini"),
    Provider(
        "anthropic",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "https://api.anthropic.com/v1",
        "claude-sonnet-4-5",
    ),
    Provider(
        "google",
        "GEMINI_API_KEY",
        "GEMINI_BASE_URL",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "gemini-2.5-flash",
    ),
    Provider(
        "mistral",
        "MISTRAL_API_KEY",
        "MISTRAL_BASE_URL",
        "https://api.mistral.ai/v1",
        "mistral-large-latest",
        "mistral",
    ),
    Provider(
        "deepseek",
        "DEEPSEEK_API_KEY",
        "DEEPSEEK_BASE_URL",
        "https://api.deepseek.com/v1",
        "deepseek-chat",
        "deepseek",
    ),
    Provider(
        "groq", "GROQ_API_KEY", "GROQ_BASE_URL", "https://api.groq.com/openai/v1", "llama-3.3-70b-versatile"
    ),
    Provider(
        "openrouter",
        "OPENROUTER_API_KEY",
        "OPENROUTER_BASE_URL",
        "https://openrouter.ai/api/v1",
        "openai/gpt-5-mini",
    ),
)
