"""Applies a policy's `private` section to one exchange."""

from gateway.errors import ApiError
from gateway.skills.privacy.screen import PrivacyScreen
from gateway.wire.body_types import Body
from policies.schema.policy import Policy
from policies.schema.private import Private

from .exchange import Exchange


def build_privacy_screen(policy: Policy) -> PrivacyScreen | None:
    """Return the screen that the policy's `private` section demands; None if there is no such section."""
    return PrivacyScreen(policy.private) if isinstance(policy.private, Private) else None


def check_blocked(policy: Policy, privacy: PrivacyScreen) -> None:
    """Raise ApiError if the screen has found private text that the policy blocks."""
    if privacy.private.action == "block" and privacy.places:
        what = f"the policy {policy.name} lets in nothing private, and {privacy.description}"
        raise ApiError(403, "private_data", what, param=privacy.places[0])


async def screen_for_privacy(policy: Policy, private: Private, body: Body, size: int) -> PrivacyScreen:
    """Return the screen of the policy's `private` section that has scanned a body of `size` bytes.

    Raises ApiError if the policy blocks what the scan has found.
    """
    privacy = PrivacyScreen(private)
    await privacy.scan(body, size)
    check_blocked(policy, privacy)
    return privacy


def holds_private_text(exchange: Exchange) -> bool:
    """Return whether nothing of the exchange's texts may be kept.

    That is so if no cloud may see the request or its answer, or if private data was found in it.
    """
    if exchange.private or (exchange.answer is not None and exchange.answer.local_only):
        return True
    screens = (each for each in exchange.transforms if isinstance(each, PrivacyScreen))
    return any(screen.has_findings for screen in screens)
