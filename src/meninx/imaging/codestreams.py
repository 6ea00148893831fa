"""What compressed pixel data promises in its own header, before any decoder is let loose on it.

A DICOM file says its rows and columns twice: in its tags and in the compressed stream. Decoders
believe the stream, so a small file whose stream promises gigapixels is a decompression bomb
whatever its tags say.
"""

import struct

JPEG_START = b"\xff\xd8"
JPEG_2000_START = b"\xff\x4f\xff\x51"
# Start-of-frame markers: JPEG's sixteen less DHT, JPG and DAC, and the one of JPEG-LS.
FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
MARKERS_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}


def measure_codestream(stream: bytes) -> tuple[int, int] | None:
    """Give rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream promises, or None."""
    start = stream.find(JPEG_2000_START, 0, 4096)  # JP2 files put boxes in front
    if start >= 0:
        return _measure_jpeg_2000(stream[start:])
    return _measure_jpeg(stream) if stream.startswith(JPEG_START) else None


def _measure_jpeg_2000(stream: bytes) -> tuple[int, int] | None:
    if len(stream) < 24:
        return None
    right, bottom, left, top = struct.unpack(">4I", stream[8:24])
    return max(0, bottom - top), max(0, right - left)


def _measure_jpeg(stream: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(stream):
        if stream[position] != 0xFF:
            return None
        marker = stream[position + 1]
        if marker == 0xFF:  # fill
            position += 1
        elif marker in MARKERS_WITHOUT_LENGTH:
            position += 2
        elif marker in FRAME_MARKERS:
            rows, columns = struct.unpack(">2H", stream[position + 5 : position + 9])
            return rows, columns
        else:
            position += 2 + struct.unpack(">H", stream[position + 2 : position + 4])[0]
    return None
