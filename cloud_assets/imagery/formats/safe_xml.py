"""XML of metadata files, with entities refused."""

from xml.etree.ElementTree import Element, ParseError, fromstring

from cloud_assets.errors import InvalidData, InvalidScene


def parsed_xml(content: bytes, where: str) -> Element:
    """Parses a metadata file.

    Args:
        content: The file's bytes.
        where: Names the file in messages.

    Raises:
        InvalidData: If it declares entities, which could name other files or grow without end.
        InvalidScene: If it is damaged.
    """
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise InvalidData(f"{where} declares XML entities; no product does. Do not use it.")
    try:
        return fromstring(content)  # noqa: S314  entities are refused above
    except ParseError as error:
        raise InvalidScene(f"{where} is damaged ({error}). Download the product again.") from error
