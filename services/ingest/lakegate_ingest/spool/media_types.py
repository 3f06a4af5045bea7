"""Declared types that no format here has: an HTML page of errors saved as data would otherwise be read as CSV.

Everything else is taken, and its format found out from name and bytes. That includes no type at all,
application/octet-stream, application/x-www-form-urlencoded, which curl -d and --data-binary declare of any file, and
application/vnd.ms-excel, which browsers on Windows declare of CSV: none of them says what was sent.
"""

from __future__ import annotations

import re

from lakegate_ingest.errors import UnsupportedMediaType

_OTHERS = re.compile(
    r"""(?: (?:audio|font|image|message|model|multipart|video)/.*
        | text/(?:calendar|css|html|javascript|markdown|rtf|vcard|xml|(?:x-)?yaml)
        | application/(?:
              [^/]*\+(?:xml|zip)
            | vnd\.(?:openxmlformats-officedocument|oasis\.opendocument)\..*
            | vnd\.apache\.(?:arrow\..*|avro|orc)
            | (?:x-)?(?:7z-compressed|avro|bzip2?|javascript|msgpack|orc|pdf|protobuf|rtf|rar|sqlite3|tar|xz|yaml|zip)
            | cbor | msword | postscript | vnd\.rar | wasm | xml | x-zip-compressed
          )
        | avro/.*
    )""",
    re.VERBOSE,
)
_TAKEN = (
    "text/csv, text/tab-separated-values, application/x-ndjson, application/json, application/vnd.apache.parquet, "
    "multipart/form-data with such files, or none"
)


def check_media_type(content_type: str, *, named: bool = False) -> None:
    """`named`: the format= parameter says what the bytes are, which counts for more. Raises UnsupportedMediaType."""
    media = content_type.partition(";")[0].strip().lower()
    if _OTHERS.fullmatch(media) is None:
        return
    if media.startswith("multipart/"):
        how = ""  # its boundaries would be read as rows, whatever is between them
    elif named:
        return
    else:
        how = " If the body is such a file in spite of its type, name its format: ?format=csv."
    raise UnsupportedMediaType(f"Content-Type '{media[:60]}' is not read here. Send {_TAKEN}.{how}")
