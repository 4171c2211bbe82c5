"""Files in requests, in base64."""

import base64
import binascii

from finetune_serving.prediction import BadInput


def file_content(text: str, index: int, name: str) -> bytes:
    """Raises BadInput."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(index, name, f"is not base64 ({error}); send the file in base64") from error
