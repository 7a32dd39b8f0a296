"""What the height of the sun above the horizon means for a scene."""

from cloud_assets.errors import InvalidScene

_LOW_SUN = 5.0
"""Degrees above the horizon below which a warning is given."""


def sun_notes(location: str, elevation: float | None) -> tuple[str, ...]:
    """What the height of the sun makes uncertain.

    Args:
        location: The scene, for messages.
        elevation: Degrees above the horizon at the scene's centre; None: unknown.

    Raises:
        InvalidScene: If the sun was below the horizon: there is no reflected light to see clouds by.
    """
    if elevation is None:
        return ()
    if elevation <= 0:
        raise InvalidScene(
            f"{location}: the sun was {-elevation:.1f} degrees below the horizon. Cloud masks need reflected "
            "sunlight; night scenes are not masked."
        )
    if elevation < _LOW_SUN:
        return (f"The sun was only {elevation:.1f} degrees above the horizon: clouds and shadows are hard to tell.",)
    return ()
